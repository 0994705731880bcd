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
	"sync"
	"syscall"
	"time"
)

// reaper is a shell that outlives this process, and then removes what it has left behind. It makes the folder,
// is told of every process before that begins, and, when its standard input ends, because of close or because this
// process ended, however that came, kills the processes and removes the folder.
//
// There is no moment at which something would be forgotten: the folder is the reaper's from its first instant, and a
// process waits, before it becomes a server, until the reaper knows of it. See run.
type reaper struct {
	dir string
	cmd *exec.Cmd

	mu    sync.Mutex
	stdin io.WriteCloser // lines: + or -, and the id of a process that leads a group of its own
}

// mktemp makes the folder here, not in Go, so that this process cannot end between making it and saying so.
const reaperScript = `
trap '' HUP INT QUIT TERM PIPE
dir=$(umask 077 && mktemp -d "$1/servers-XXXXXXXX") || exit 1
printf '%s\n' "$dir"
exec >/dev/null
pids=' '
while read -r line; do
	pid=${line#?}
	case $line in
	+*) pids="$pids$pid " ;;
	-*) pids="${pids%% $pid *} ${pids#* $pid }" ;;
	esac
done
for pid in $pids; do
	kill -9 "-$pid"
done
tries=0
# Those killed may be making files for another moment.
until rm -rf "$dir"; do
	tries=$((tries + 1))
	[ "$tries" -lt 100 ] || exit 1
	sleep 0.1
done
`

func startReaper() (*reaper, error) {
	tmp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	// A group of its own: Ctrl-C ends this process, not the reaper. Neither does it hold this process's output open,
	// for which go test would wait.
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "servers-reaper", tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Dir = "/"
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("servers: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("servers: starting the reaper: %w", err)
	}
	r := &reaper{cmd: cmd, stdin: stdin}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		_ = stdin.Close()
		return nil, fmt.Errorf("servers: making a folder in %q: %w", tmp, errors.Join(err, cmd.Wait()))
	}
	r.dir = strings.TrimSuffix(line, "\n")
	return r, nil
}

// tell writes one line to the reaper.
func (r *reaper) tell(sign string, pid int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	_, err := fmt.Fprintf(r.stdin, "%s%d\n", sign, pid)
	return err
}

// close ends the reaper, which ends all processes that still run and removes the folder, and waits until it has.
func (r *reaper) close() error {
	r.mu.Lock()
	err := r.stdin.Close()
	r.mu.Unlock()
	// The script's patience is 10 s; more, and something is wrong with the shell.
	timer := time.AfterFunc(limit, func() { _ = r.cmd.Process.Kill() })
	defer timer.Stop()
	if err := errors.Join(err, r.cmd.Wait()); err != nil {
		// Somebody ended it, or the folder is still in use: once more from here.
		return errors.Join(fmt.Errorf("servers: the reaper: %w", err), os.RemoveAll(r.dir))
	}
	return nil
}

// process is a child process that leads a group of its own, and that the reaper knows of.
type process struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error // how it ended; set before done is closed
}

// run starts argv, whose output is appended to the file log.
func (r *reaper) run(log string, argv []string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	// A shell that becomes argv once it reads a line. It reads none, and ends, if this process ends before the reaper
	// knows of it.
	cmd := exec.Command("/bin/sh", append([]string{"-c", `read -r go && exec "$@" </dev/null`, "servers-run"}, argv...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Dir = r.dir
	cmd.Stdout, cmd.Stderr = out, out
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &process{cmd: cmd, done: make(chan struct{})}
	err = r.tell("+", cmd.Process.Pid)
	if err == nil {
		_, err = io.WriteString(stdin, "go\n")
	}
	err = errors.Join(err, stdin.Close())
	go func() {
		p.err = cmd.Wait()
		_ = r.tell("-", cmd.Process.Pid) // fails if the reaper is closed: then it does not matter
		close(p.done)
	}()
	if err != nil {
		_ = p.signal(syscall.SIGKILL)
		<-p.done
		return nil, err
	}
	return p, nil
}

func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// signal sends sig to the process; it fails, and hits nobody else, if that has ended.
func (p *process) signal(sig syscall.Signal) error { return p.cmd.Process.Signal(sig) }

// wait waits until the process has ended. That it ended by a signal, or with an exit code, is no error: see p.err.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// frozen returns nil if every thread of the process stands still: SIGSTOP reaches them one by one. Where there is no
// /proc to tell, it takes that for granted.
func (p *process) frozen() error {
	stats, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.cmd.Process.Pid))
	if err != nil {
		return err
	}
	for _, name := range stats {
		b, err := os.ReadFile(name)
		if err != nil {
			continue // a thread that has ended
		}
		// pid (name) state …, where the name may be anything
		_, rest, _ := strings.Cut(string(b[strings.LastIndexByte(string(b), ')')+1:]), " ")
		if !strings.HasPrefix(rest, "T") {
			return errors.New("it still runs")
		}
	}
	return nil
}
