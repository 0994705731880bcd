package servers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// galera is the engine of MariaDB's Galera cluster. All nodes take writes; the master is the one that is
// written to. What a node lacks when it joins it gets from another one, as transactions: all of those are
// still there.
type galera struct {
	mariaDB
	provider string // libgalera_smm.so
	nodes    *nodes
}

var _ engine = galera{}

// nodes is what the nodes of one cluster have to know. The addresses are for the cluster, and to get
// transactions.
type nodes struct {
	peers peers
	locks readLocks
}

// findGalera returns the engine with the library that REPLICATED_GALERA names; or else with the one beside
// MariaDB; or else with Debian's.
func findGalera() (galera, error) {
	path, err := program("mariadbd", mariaDBPackage)
	if err != nil {
		return galera{}, err
	}
	named := []string{os.Getenv("REPLICATED_GALERA")}
	if named[0] == "" {
		named = []string{filepath.Join(filepath.Dir(path), "..", "lib", "galera", "libgalera_smm.so"),
			"/usr/lib/galera/libgalera_smm.so"}
	}
	for _, file := range named {
		if _, err := os.Stat(file); err == nil {
			return galera{provider: file, nodes: new(nodes)}, nil
		}
	}
	return galera{}, notInstalled("libgalera_smm.so", "galera-4")
}

func (g galera) install(ctx context.Context, c *Cluster, dir string) error {
	if err := g.nodes.peers.choose(c, 2); err != nil {
		return err
	}
	if err := os.Mkdir(transfers(c), 0o700); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	program := filepath.Join(transfers(c), "wsrep_sst_"+transferMethod)
	if err := os.WriteFile(program, []byte(transfer), 0o700); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := g.mariaDB.install(ctx, c, dir); err != nil {
		return err
	}
	return g.begin(ctx, c, dir)
}

// begin runs the installed server for a moment, as the first node of the cluster: its copies have the
// beginning of the cluster's history, and so need not be sent all data.
func (g galera) begin(ctx context.Context, c *Cluster, dir string) error {
	first := c.newServer(c.Master.id, nil)
	first.dir += ".first"
	if err := errors.Join(os.Mkdir(first.dir, 0o700), os.Rename(dir, first.data())); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	if err := first.startFirst(ctx, freePort); err != nil {
		return err
	}
	if err := errors.Join(first.db.Close(), first.Stop(ctx), os.Rename(first.data(), dir)); err != nil {
		return fmt.Errorf("servers: %w", err)
	}
	// Each of them would take for its own what the first node has logged until now.
	logs, err := filepath.Glob(filepath.Join(dir, "binlog.*"))
	for _, name := range append(logs, filepath.Join(dir, "galera.cache")) {
		err = errors.Join(err, os.Remove(name))
	}
	return err
}

func transfers(c *Cluster) string { return filepath.Join(c.reaper.dir, "transfers") }

const transferMethod = "transactions"

// transfer is the program that two nodes run when one joins. The one that joins prints where it waits: for a
// file. The other one writes into that how far the first had come, from where on it will send transactions;
// it sends nothing else.
//
// MariaDB 11.8 writes an account for the transfer to the donor's standard input. If the program has ended
// before, the server gets EPIPE, and fails the transfer. So the donor reads all of it. In 10.11 it is empty.
const transfer = `#!/bin/sh
role= address= data= gtid= domain= parent=$PPID bypass=
while [ $# -gt 0 ]; do
	case $1 in
	--role) role=$2; shift ;;
	--address) address=$2; shift ;;
	--datadir) data=$2; shift ;;
	--gtid) gtid=$2; shift ;;
	--gtid-domain-id) domain=$2; shift ;;
	--parent) parent=$2; shift ;;
	--bypass) bypass=yes ;;
	esac
	shift
done
case $role in
joiner)
	file=${data%/}.from
	rm -f "$file"
	echo "ready $file"
	until [ -f "$file" ]; do
		kill -0 "$parent" || exit 1
		sleep 0.05
	done
	cat "$file"
	;;
donor)
	cat >/dev/null
	[ -n "$bypass" ] || exit 1 # the transactions are not there any longer
	echo continue
	echo "$gtid $domain" >"$address.new"
	mv "$address.new" "$address"
	echo "done $gtid"
	;;
esac
`

// galeraState is a file with how far a node had come when it was stopped. While it runs, and so also when it
// was killed, the number there is -1.
const galeraState = "grastate.dat"

// startNode runs a node, of which it first finds out how far it had come: from that file or, where it was
// killed, from the data.
const startNode = `
state=$1/grastate.dat recovered=$2 at=
shift 2
if [ -f "$state" ]; then
	at=$(sed -n 's/^seqno: *//p' "$state")
	if [ "$at" = -1 ]; then
		"$@" --wsrep-recover --log-error="$recovered"
		at=$(sed -n 's/.*Recovered position: *//p' "$recovered" | tail -n 1)
	else
		at=$(sed -n 's/^uuid: *//p' "$state"):$at
	fi
fi
exec "$@" ${at:+"--wsrep-start-position=$at"}
`

func (g galera) command(s *Server) (command, error) {
	cmd, err := g.mariaDB.command(s)
	if err != nil {
		return command{}, err
	}
	own, err := g.nodes.peers.address(s, 0)
	if err != nil {
		return command{}, err
	}
	receives, err := g.nodes.peers.address(s, 1)
	if err != nil {
		return command{}, err
	}
	founds, err := g.founds(s)
	if err != nil {
		return command{}, err
	}
	cluster := "gcomm://"
	if !founds {
		cluster += strings.Join(g.nodes.peers.all(0), ",") // its own among them does no harm
	}
	recovered := filepath.Join(s.dir, "recovered.err")
	cmd.argv = slices.Concat([]string{"/bin/sh", "-c", startNode, "node", s.data(), recovered},
		cmd.argv, []string{
			"--binlog-format=ROW",
			"--innodb-autoinc-lock-mode=2",
			"--wsrep-on=ON",
			"--wsrep-provider=" + g.provider,
			"--wsrep-cluster-name=" + s.cluster.password, // nobody else's
			"--wsrep-cluster-address=" + cluster,
			"--wsrep-node-name=" + strconv.Itoa(s.id),
			"--wsrep-node-address=" + own,
			"--wsrep-gtid-mode=ON",
			"--wsrep-gtid-domain-id=0",
			fmt.Sprintf("--gtid-domain-id=%d", 10+s.id), // of what is not replicated by the cluster
			"--wsrep-sst-method=" + transferMethod,
			// No slave that is held slows down the others. A node that is silent for 5 s is out.
			"--wsrep-provider-options=gmcast.listen_addr=tcp://" + own + ";ist.recv_addr=" + receives +
				";gcs.fc_limit=1000000;gcache.size=128M;socket.ssl=no",
		})
	cmd.env = append(os.Environ(), "PATH="+transfers(s.cluster)+":"+os.Getenv("PATH"))
	return cmd, nil
}

// founds says whether the node is to found the cluster, as the master does where there is none: then it is
// told that it may.
func (g galera) founds(s *Server) (bool, error) {
	if s.master != nil {
		return false, nil
	}
	for _, other := range g.nodes.peers.others(s, s.db) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second) // it may be frozen
		status, err := g.status(ctx, other, "wsrep_cluster_status")
		cancel()
		if err == nil && status == "Primary" {
			return false, nil
		}
	}
	file := filepath.Join(s.data(), galeraState)
	state, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return true, nil
	} else if err != nil {
		return false, err
	}
	may := strings.ReplaceAll(string(state), "safe_to_bootstrap: 0", "safe_to_bootstrap: 1")
	return true, os.WriteFile(file, []byte(may), 0o600)
}

// answers has Start return when the node has joined the cluster, and has what that has.
func (g galera) answers(ctx context.Context, s *Server, db *sql.DB) error {
	if err := g.mariaDB.answers(ctx, s, db); err != nil {
		return err
	}
	_ = g.nodes.peers.others(s, db) // they know it from now on
	state, err := g.status(ctx, db, "wsrep_local_state_comment")
	if err == nil && state != "Synced" {
		err = fmt.Errorf("the node is %q", state)
	}
	return err
}

// status returns what a node says of itself.
func (galera) status(ctx context.Context, db *sql.DB, variable string) (value string, err error) {
	err = db.QueryRowContext(ctx, "SELECT variable_value FROM information_schema.global_status "+
		"WHERE variable_name = ?", variable).Scan(&value)
	return value, err
}

// follow has nothing to do: the slave is a node of the cluster.
func (galera) follow(context.Context, *Server) error { return nil }

// hold keeps the node from applying anything; it goes on receiving.
func (g galera) hold(ctx context.Context, s *Server) error { return g.nodes.locks.hold(ctx, s) }

func (g galera) release(_ context.Context, s *Server) error { return g.nodes.locks.release(s) }

func (galera) delay(context.Context, *Server, int) error {
	return fmt.Errorf("a node applies what it receives at once: %w", errors.ErrUnsupported)
}

// position returns the number of the last transaction in the cluster's history.
func (g galera) position(ctx context.Context, master *Server) (string, error) {
	return g.status(ctx, master.db, "wsrep_last_committed")
}

// replayed waits for that number, and then for what the node itself offers: its number may be ahead of what
// is visible.
func (g galera) replayed(ctx context.Context, s *Server, position string) error {
	want, err := strconv.ParseInt(position, 10, 64)
	if err != nil {
		return err
	}
	err = poll(ctx, func() error {
		text, err := g.status(ctx, s.db, "wsrep_last_committed")
		if err != nil {
			return err
		}
		is, err := strconv.ParseInt(text, 10, 64)
		if err != nil {
			return err
		}
		if is < want {
			return fmt.Errorf("it is at %d", is)
		}
		// Refused for as long as the node has to join the cluster again.
		_, err = s.db.ExecContext(ctx, "SET STATEMENT wsrep_sync_wait = 1 FOR SELECT COUNT(*) FROM mysql.db")
		return err
	})
	if err != nil {
		return fmt.Errorf("waiting for %s: %w", position, err)
	}
	return nil
}

// ownTransactions returns how many transactions the node has passed on since it was started. Which they are
// it does not tell: all events in the binary logs have the server id of the node with which the cluster
// began.
func (g galera) ownTransactions(ctx context.Context, s *Server) ([]string, error) {
	n, err := g.status(ctx, s.db, "wsrep_replicated")
	if n == "0" || err != nil {
		return nil, err
	}
	return []string{n + " transactions of its own"}, nil
}
