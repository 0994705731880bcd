package servers

import (
	"bufio"
	"cmp"
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

// reaper is a shell that outlives this process, and then removes what it has left behind. It makes the
// folder, is told of every process before that begins, and, when its standard input ends, because of close or
// because this process ended, however that came, kills the processes and removes the folder.
//
// There is no moment at which something would be forgotten: the folder is the reaper's from its first
// instant, and a process waits, before it becomes a server, until the reaper knows of it. See run.
type reaper struct {
	dir string
	cmd *exec.Cmd

	mu    sync.Mutex
	stdin io.WriteCloser // lines: + or -, and the id of a process that leads a group of its own
}

// mktemp makes the folder here, not in Go, so that this process cannot end between making it and saying so.
//
// The processes are ended as by process.kill: stopped from the top of the tree down, so that no child of
// theirs can be missed, and then killed. What a server that was killed leaves behind outside of the folder
// goes with it: PostgreSQL's segments of shared memory. They are System V's, of a running server and of one
// that was killed before: the id is in its file, but not from the first moment on, so the maps of processes
// are read as well. While it is installed, they are POSIX's. Root may not everywhere remove what belongs to
// another account, which has to do it itself then.
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

# look reads the state and the parent of process $1, where /proc has it: pid (name) state parent ...
look() {
	read -r line <"/proc/$1/stat" || return 1
	line=${line##*) }
	state=${line%% *}
	line=${line#* }
	parent=${line%% *}
}
all=
level=$pids
while [ -n "${level% }" ]; do
	all="$all $level"
	kill -STOP $level
	for pid in $level; do
		tries=0
		while look "$pid"; do
			case $state in [TtZX]) break ;; esac
			tries=$((tries + 1))
			[ "$tries" -lt 100 ] || break
			sleep 0.01
		done
	done
	parents=" $level "
	level=
	for stat in /proc/[0-9]*/stat; do
		pid=${stat#/proc/}
		pid=${pid%/stat}
		look "$pid" || continue
		case $parents in *" $parent "*) level="$level $pid" ;; esac
	done
done
# remove_segment removes segment $1 of System V's memory, which belongs to account $2.
remove_segment() {
	ipcrm -m "$1" || setpriv --reuid="$2" --clear-groups ipcrm -m "$1"
}
posix=
systemv=
for pid in $all; do
	posix="$posix $(sed -n 's|.* \(/dev/shm/PostgreSQL[.][0-9]*\)$|\1|p' "/proc/$pid/maps")"
	for id in $(sed -n 's|.* \([0-9]*\) */SYSV[0-9a-f]* (deleted)$|\1|p' "/proc/$pid/maps"); do
		systemv="$systemv $id:$(stat -c %u "/proc/$pid")"
	done
done
kill -9 $all
for pid in $pids; do
	kill -9 "-$pid"
done
rm -f $posix
for file in "$dir"/*/postmaster.pid "$dir"/*/data/postmaster.pid; do
	id=$(sed -n '7s/.* //p' "$file")
	[ -z "$id" ] || systemv="$systemv $id:$(stat -c %u "$file")"
done
for segment in $systemv; do
	remove_segment "${segment%:*}" "${segment#*:}"
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
	// A session of its own: Ctrl-C ends this process, not the reaper. Neither does it hold this process's output
	// open, for which go test would wait.
	cmd := exec.Command("/bin/sh", "-c", reaperScript, "servers-reaper", tmp)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
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

// close ends the reaper, which ends all processes that still run and removes the folder, and waits until it
// has.
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

// process is a child process that leads a session and a group of its own, and that the reaper knows of.
type process struct {
	cmd    *exec.Cmd
	done   chan struct{}
	err    error  // how it ended; set before done is closed
	frozen []task // what freeze has stopped; whoever starts the process sees to it that one at a time uses it
}

// command is a program to run.
type command struct {
	argv  []string
	stdin string   // a file; "": nothing
	env   []string // nil: that of this process
	user  *account // nil: that of this process
}

// account is a user of the operating system.
type account struct {
	name     string
	uid, gid uint32
}

// own makes the account the owner of a file or folder. letThrough lets the account reach what it owns in a
// folder. For nil neither does anything: all belongs to the account of this process.
func (a *account) own(name string) error {
	if a == nil {
		return nil
	}
	return os.Chown(name, int(a.uid), int(a.gid))
}

func (a *account) letThrough(dir string) error {
	if a == nil {
		return nil
	}
	return os.Chmod(dir, 0o711)
}

// run starts c, whose output is appended to the file log.
func (r *reaper) run(log string, c command) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer out.Close() // the child has its own
	// A shell that becomes the program once it reads a line. If this process ends before the reaper knows of the
	// shell, the shell reads none, and ends.
	const wait = `read -r go && exec "$@" <"$0"`
	cmd := exec.Command("/bin/sh", append([]string{"-c", wait, cmp.Or(c.stdin, os.DevNull)}, c.argv...)...)
	// A session of its own, not just a group: when this process ends, the kernel would send SIGHUP and SIGCONT
	// to what stands still in a group of this session, just when the reaper begins to stop it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if c.user != nil {
		cmd.SysProcAttr.Credential = &syscall.Credential{Uid: c.user.uid, Gid: c.user.gid}
	}
	cmd.Dir = r.dir
	cmd.Env = c.env
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

// runToEnd runs c, which ends by itself, and waits until it has; it is an error if it fails.
func (r *reaper) runToEnd(ctx context.Context, log string, c command) error {
	p, err := r.run(log, c)
	if err != nil {
		return err
	}
	// If the context ends, closing the cluster ends the process.
	if err := p.wait(ctx); err != nil {
		return err
	}
	if p.err != nil {
		b, _ := os.ReadFile(log)
		return fmt.Errorf("%w; it said:\n%s", p.err, b)
	}
	return nil
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

// wait waits until the process has ended. That it ended by a signal, or with an exit code, is no error: see
// p.err.
func (p *process) wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
