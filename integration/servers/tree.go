package servers

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// The tree of a process: itself and all processes that descend from it, whatever groups and sessions they
// have made for themselves. It is read from /proc; where there is none, a tree is its root alone.

// task is a process of a tree. Ids of processes are used again; an id together with when its process began is
// not.
type task struct {
	pid   int
	began string // in the kernel's count
}

// stat is what /proc tells of a process or of one of its threads.
type stat struct {
	state  byte // R, S, D: it may run on; T, t: stopped; Z, X: ended
	parent int
	began  string
}

// readStat reads a file of the form /proc/*/stat. It fails if the process is not there, or no longer.
func readStat(name string) (stat, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return stat{}, err
	}
	// pid (name) state parent …, where the name may be anything
	line := string(b)
	fields := strings.Fields(line[strings.LastIndexByte(line, ')')+1:])
	const state, parent, began = 0, 1, 19
	if len(fields) <= began {
		return stat{}, fmt.Errorf("%s: %q", name, line)
	}
	pid, err := strconv.Atoi(fields[parent])
	return stat{state: fields[state][0], parent: pid, began: fields[began]}, err
}

func (t task) stat() (stat, error) {
	st, err := readStat(fmt.Sprintf("/proc/%d/stat", t.pid))
	if err == nil && t.began != "" && t.began != st.began {
		err = os.ErrNotExist // somebody else by now
	}
	return st, err
}

// ended says whether t has ended. A process that nobody has waited for yet has: its new parent may never do
// it.
func (t task) ended() bool {
	st, err := t.stat()
	return err != nil || st.state == 'Z' || st.state == 'X'
}

// still says whether every thread of t stands still or has ended: SIGSTOP reaches them one by one.
func (t task) still() bool {
	names, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", t.pid))
	if err != nil {
		return false
	}
	for _, name := range names {
		st, err := readStat(name)
		if err == nil && !strings.ContainsRune("TtZX", rune(st.state)) {
			return false
		}
	}
	return true
}

// children returns the processes whose parent is one of these.
func children(parents []task) ([]task, error) {
	names, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return nil, err
	}
	var found []task
	for _, name := range names {
		st, err := readStat(name)
		if err != nil {
			continue // it has ended meanwhile
		}
		if !slices.ContainsFunc(parents, func(p task) bool { return p.pid == st.parent }) {
			continue
		}
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(name)))
		if err != nil {
			return nil, err
		}
		found = append(found, task{pid, st.began})
	}
	return found, nil
}

// freeze stops the tree and returns when all of it stands still. Whether it succeeds or not, p.frozen is what
// it has stopped, parents first.
//
// It goes down level by level. The children of processes that stand still are a list that holds: no more are
// made, and nobody waits for one that has ended, so that no other process can take its id and be hit in its
// place.
func (p *process) freeze(ctx context.Context) error {
	root := task{pid: p.cmd.Process.Pid}
	p.frozen = nil
	for level := []task{root}; len(level) > 0; {
		p.frozen = append(p.frozen, level...)
		for _, t := range level {
			if err := p.signalTask(t, syscall.SIGSTOP); err != nil {
				return err
			}
		}
		err := poll(ctx, func() error {
			if !slices.ContainsFunc(level, func(t task) bool { return !t.still() }) {
				return nil
			}
			return errors.New("it still runs")
		})
		if err != nil {
			return err
		}
		if level, err = children(level); err != nil {
			return err
		}
	}
	return nil
}

// thaw lets go on what freeze has stopped.
func (p *process) thaw() error { return p.signalFrozen(syscall.SIGCONT) }

// kill ends the tree by SIGKILL, and waits until nothing of it runs any more.
func (p *process) kill(ctx context.Context) error {
	// Freeze first, or a process could begin that the signal does not reach. If that fails, what it found is
	// killed.
	err := p.freeze(ctx)
	tree := p.frozen
	err = errors.Join(err, p.signalFrozen(syscall.SIGKILL), p.wait(ctx))
	if err != nil {
		return err
	}
	return poll(ctx, func() error {
		for _, t := range tree[1:] { // the root has been waited for
			if !t.ended() {
				return fmt.Errorf("its process %d still runs", t.pid)
			}
		}
		return nil
	})
}

// signalFrozen sends sig to all that freeze has stopped, the root last: before that goes on, or ends, the
// others keep their ids.
func (p *process) signalFrozen(sig syscall.Signal) error {
	var errs []error
	for _, t := range slices.Backward(p.frozen) {
		errs = append(errs, p.signalTask(t, sig))
	}
	p.frozen = nil
	return errors.Join(errs...)
}

// signalTask sends sig to one process of the tree, unless that has ended.
func (p *process) signalTask(t task, sig syscall.Signal) error {
	var err error
	if t.pid == p.cmd.Process.Pid {
		err = p.signal(sig)
	} else {
		err = syscall.Kill(t.pid, sig)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("%v to process %d: %w", sig, t.pid, err)
	}
	return nil
}
