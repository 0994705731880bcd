package servers

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary be the child of TestNothingIsLeftBehind; its value is how it ends.
const childEnv = "SERVERS_TEST_CHILD"

func TestMain(m *testing.M) {
	if how := os.Getenv(childEnv); how != "" {
		child(how)
	}
	os.Exit(m.Run())
}

// child starts a cluster, prints its folder and the ids of its processes, and, once told to, ends without closing it.
func child(how string) {
	c, err := StartMariaDB(context.Background(), Config{Slaves: 2})
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	if err := c.Slaves[0].Freeze(); err != nil { // must not make a difference
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Print(c.reaper.dir, " ", c.reaper.cmd.Process.Pid)
	for _, s := range c.servers() {
		fmt.Print(" ", s.proc.cmd.Process.Pid)
	}
	fmt.Println()
	_, _ = io.ReadAll(os.Stdin)
	if how == "panic" {
		panic("as asked")
	}
	os.Exit(0)
}

func TestNothingIsLeftBehind(t *testing.T) {
	for _, how := range []string{"panic", "exit", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := startChild(t, how)
			line, err := p.stdout.ReadString('\n')
			if err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			var dir string
			pids := make([]int, 4) // the reaper, the master and two slaves
			if _, err := fmt.Sscan(line, &dir, &pids[0], &pids[1], &pids[2], &pids[3]); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			// The control: all of it is there.
			if _, err := os.Stat(filepath.Join(dir, "1", "data")); err != nil || filepath.Dir(dir) != p.tmp {
				t.Errorf("the folder %s: %v", dir, err)
			}
			for _, pid := range pids {
				if !alive(pid) {
					t.Errorf("process %d is not there", pid)
				}
			}
			if n := len(p.processes(t)); n < 4 {
				t.Errorf("found %d processes", n)
			}
			if how == "kill" {
				ok(t, p.cmd.Process.Kill())
			} else {
				ok(t, p.stdin.Close())
			}
			p.leavesNothing(t)
			for _, pid := range pids {
				if alive(pid) {
					t.Errorf("process %d is there", pid)
				}
			}
		})
	}
	// The moment: when this is seen in the arguments of a process. It must not be in the name, which the folder has.
	for _, row := range []struct{ name, seen string }{
		{"kill at the beginning", "servers-reaper"},
		{"kill while it installs", "--bootstrap"},
		{"kill while the slaves start", "--server-id=3"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := startChild(t, "kill")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			ok(t, poll(ctx, func() error {
				if all := strings.Join(p.processes(t), "\n"); !strings.Contains(all, row.seen) {
					return fmt.Errorf("none with %q:\n%s", row.seen, all)
				}
				return nil
			}))
			ok(t, p.cmd.Process.Kill())
			p.leavesNothing(t)
		})
	}
}

// childProcess is a test binary that starts a cluster. Its temporary files go to tmp, and all processes that it starts
// have that in their arguments: so what it leaves behind is found without its help.
type childProcess struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	tmp    string
}

func startChild(t *testing.T, how string) *childProcess {
	t.Helper()
	if _, err := program("mariadbd", mariaDBPackage); err != nil {
		Check(t, err)
	}
	exe, err := os.Executable()
	ok(t, err)
	p := &childProcess{cmd: exec.Command(exe), tmp: t.TempDir()}
	p.cmd.Env = append(os.Environ(), childEnv+"="+how, "TMPDIR="+p.tmp)
	p.stdin, err = p.cmd.StdinPipe()
	ok(t, err)
	stdout, err := p.cmd.StdoutPipe()
	ok(t, err)
	p.stdout = bufio.NewReader(stdout)
	ok(t, p.cmd.Start())
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		_ = p.cmd.Wait() // of a process that was killed, or panicked
	})
	return p
}

// processes returns the command lines of all processes that belong to the child.
func (p *childProcess) processes(t *testing.T) []string {
	t.Helper()
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ok(t, err)
	if len(names) == 0 {
		t.Fatal("there is no /proc to find processes in")
	}
	var lines []string
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil && strings.Contains(string(b), p.tmp) {
			lines = append(lines, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return lines
}

// leavesNothing waits until neither a process nor a file of the child is there.
func (p *childProcess) leavesNothing(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	err := poll(ctx, func() error {
		files, err := os.ReadDir(p.tmp)
		if err != nil {
			return err
		}
		if lines := p.processes(t); len(lines) > 0 || len(files) > 0 {
			return errors.New(fmt.Sprint(files, strings.Join(lines, "\n")))
		}
		return nil
	})
	if err != nil {
		t.Errorf("left behind: %v", err)
	}
}
