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
	"strconv"
	"strings"
	"testing"
	"time"
)

// childEnv makes the test binary be the child of TestNothingIsLeftBehind; its value is the kind of its
// servers and how it ends.
const childEnv = "SERVERS_TEST_CHILD"

func TestMain(m *testing.M) {
	if env := os.Getenv(childEnv); env != "" {
		last := strings.LastIndexByte(env, ' ') // names of kinds have spaces
		for _, k := range kinds {
			if k.name == env[:max(last, 0)] {
				child(k, env[last+1:])
			}
		}
		fmt.Printf("%s is %q, which is no kind\n", childEnv, env)
		os.Exit(3) // or each child would run the tests, and have children
	}
	os.Exit(m.Run())
}

// child starts a cluster, prints its folder and the ids of its processes, and, once told to, ends without
// closing it. One slave is frozen then and one has been killed, which must not make a difference.
func child(k kind, how string) {
	c, err := k.start(context.Background(), Config{Slaves: 2})
	if err == nil {
		err = errors.Join(c.Slaves[0].Freeze(), c.Slaves[1].Kill())
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	fmt.Println(c.reaper.dir, c.reaper.cmd.Process.Pid, c.Master.proc.cmd.Process.Pid,
		c.Slaves[0].proc.cmd.Process.Pid)
	_, _ = io.ReadAll(os.Stdin)
	if how == "panic" {
		panic("as asked")
	}
	os.Exit(0)
}

func TestNothingIsLeftBehind(t *testing.T) { eachKind(t, testNothingIsLeftBehind) }

func testNothingIsLeftBehind(t *testing.T, k kind) {
	if k.group {
		return // seven groups at once cannot agree on anything in time; their processes are MySQL's and MariaDB's
	}
	for _, how := range []string{"panic", "exit", "kill"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			p := startChild(t, k, how)
			line, err := p.stdout.ReadString('\n')
			if err != nil {
				t.Fatalf("%q, %v", line, err)
			}
			var dir string
			all := make([]task, 3) // the reaper, the master and a slave
			if _, err := fmt.Sscan(line, &dir, &all[0].pid, &all[1].pid, &all[2].pid); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			var memory []string
			for _, id := range []string{"1", "2", "3"} {
				memory = append(memory, segments(t, filepath.Join(dir, id, "data"))...)
			}
			// The control: all of it is there.
			if _, err := os.Stat(filepath.Join(dir, "1", "data")); err != nil || filepath.Dir(dir) != p.tmp {
				t.Errorf("the folder %s: %v", dir, err)
			}
			for _, task := range all {
				if task.ended() {
					t.Errorf("process %d is not there", task.pid)
				}
			}
			if n := len(p.processes(t)); n < len(all) {
				t.Errorf("found %d processes, want at least %d", n, len(all))
			}
			all = withDescendants(t, all)
			mustHaveSegments(t, k, memory, 3)
			if how == "kill" {
				ok(t, p.cmd.Process.Kill())
			} else {
				ok(t, p.stdin.Close())
			}
			p.leavesNothing(t)
			for _, task := range all {
				if !task.ended() {
					t.Errorf("process %d is there", task.pid)
				}
			}
			mustHaveNoSegments(t, memory)
		})
	}
	// The moment: when one of these is there, in the child's folder or in the memory of its processes.
	const shared = "shared memory"
	for _, row := range []struct {
		name               string
		binlog, postgreSQL []string
	}{
		{"kill at the beginning", []string{"."}, []string{"."}},
		{"kill while it installs", []string{"installed/ibdata1", "1/log"}, []string{shared, "1/log"}},
		{"kill before the slaves", []string{"1/log"}, []string{"2/data"}},
		{"kill while the slaves start", []string{"2/log", "3/log"}, []string{"2/log", "3/log"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			p := startChild(t, k, "kill")
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			moment := row.binlog
			if k.name == "PostgreSQL" {
				moment = row.postgreSQL
			}
			var files, ids []string
			ok(t, poll(ctx, func() error {
				files, ids = p.memory(t)
				for _, name := range moment {
					found, err := filepath.Glob(filepath.Join(p.tmp, "servers-*", name))
					if err != nil || len(found) > 0 || name == shared && len(files) > 0 && len(ids) > 0 {
						return err
					}
				}
				return fmt.Errorf("none of %q:\n%s", moment, strings.Join(p.processes(t), "\n"))
			}))
			ok(t, p.cmd.Process.Kill())
			p.leavesNothing(t)
			for _, name := range files {
				if _, err := os.Stat(name); err == nil {
					t.Errorf("%s is there", name)
				}
			}
			mustHaveNoSegments(t, ids)
		})
	}
}

// childProcess is a test binary that starts a cluster. Its temporary files go to tmp, and all processes that
// it starts have that, or the name of what is in it, in their arguments: so what it leaves behind is found
// without its help.
type childProcess struct {
	cmd    *exec.Cmd
	stdin  io.Closer
	stdout *bufio.Reader
	tmp    string
	folder string // in tmp, once there is one
}

func startChild(t *testing.T, k kind, how string) *childProcess {
	t.Helper()
	k.engine(t)
	exe, err := os.Executable()
	ok(t, err)
	p := &childProcess{cmd: exec.Command(exe), tmp: t.TempDir()}
	// PostgreSQL may run as another account, which has to get there.
	ok(t, os.Chmod(filepath.Dir(p.tmp), 0o711))
	p.cmd.Env = append(os.Environ(), childEnv+"="+k.name+" "+how, "TMPDIR="+p.tmp)
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
	var lines []string
	for _, task := range p.tasks(t) {
		if b, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", task.pid)); err == nil {
			lines = append(lines, strings.ReplaceAll(string(b), "\x00", " "))
		}
	}
	return lines
}

// memory returns the files of POSIX's shared memory that those processes have, and the ids of System V's
// segments, as far as one may look into them.
func (p *childProcess) memory(t *testing.T) (files, ids []string) {
	t.Helper()
	for _, task := range p.tasks(t) {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", task.pid))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(b)) {
			// addresses, permissions, offset, device, inode, name; of a segment the id is the inode
			switch fields := strings.Fields(line); {
			case len(fields) < 6:
			case strings.HasPrefix(fields[5], "/dev/shm/"):
				files = append(files, fields[5])
			case strings.HasPrefix(fields[5], "/SYSV"):
				ids = append(ids, fields[4])
			}
		}
	}
	return files, ids
}

// tasks returns the processes that belong to the child.
func (p *childProcess) tasks(t *testing.T) []task {
	t.Helper()
	folders, err := filepath.Glob(filepath.Join(p.tmp, "servers-*"))
	ok(t, err)
	if len(folders) > 0 {
		p.folder = filepath.Base(folders[0])
	}
	names, err := filepath.Glob("/proc/[0-9]*/cmdline")
	ok(t, err)
	if len(names) == 0 {
		t.Fatal("there is no /proc to find processes in")
	}
	var found []task
	for _, name := range names {
		b, err := os.ReadFile(name)
		line := string(b)
		if err != nil || !strings.Contains(line, p.tmp) && (p.folder == "" || !strings.Contains(line, p.folder)) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		ok(t, err)
		found = append(found, task{pid: pid})
	}
	return withDescendants(t, found)
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
