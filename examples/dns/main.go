// Command dns reads from all servers that one name leads to. Each address is a slave of its own, as the
// plugin needs it: the plugin asks the very server that it reads how far the server is. When the name leads
// elsewhere, slaves come and go while requests run. It is an example to copy, and no service discovery: where
// something else knows the servers, ask that, and call SetSlaves.
//
//	export MASTER_DSN='user:password@tcp(db1:3306)/app'
//	export SLAVES_DSN='user:password@tcp(slaves.example.net:3306)/app?timeout=2s'
//	export SECRET=$(openssl rand -base64 32) # the same for all instances
//	go run ./dns
//
// The table is made by ../nethttp, which is the complete program.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"time"

	driver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"

	"github.com/gorm-replicated/replicated"
)

const (
	every   = 30 * time.Second // between two looks
	timeout = 5 * time.Second  // of one
)

type Note struct {
	ID   uint
	Text string
}

func main() {
	db, err := gorm.Open(mysql.Open(os.Getenv("MASTER_DSN")), &gorm.Config{})
	if err != nil {
		log.Fatal(err)
	}
	name, slave, err := slavesOf(os.Getenv("SLAVES_DSN"))
	if err != nil {
		log.Fatal(err)
	}
	plugin := replicated.New(replicated.Config{
		Secrets:  [][]byte{[]byte(os.Getenv("SECRET"))}, // openssl rand -base64 32
		Failover: replicated.FailoverConfig{MaxOnMaster: 50},
	})
	if err := db.Use(plugin); err != nil {
		log.Fatal(err)
	}
	follower := &follower{
		name:   name,
		lookup: net.DefaultResolver.LookupHost,
		slave:  slave,
		set:    plugin.SetSlaves,
	}
	follower.look(context.Background()) // before the first request; while there is no answer the master serves
	go follower.run(context.Background(), every)
	log.Fatal(http.ListenAndServe("127.0.0.1:8080", plugin.Middleware(routes(db))))
}

func routes(db *gorm.DB) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /notes", func(w http.ResponseWriter, r *http.Request) {
		var notes []Note
		if err := db.WithContext(r.Context()).Find(&notes).Error; err != nil {
			failed(w, err)
			return
		}
		json.NewEncoder(w).Encode(notes)
	})
	return mux
}

// failed answers a request whose database failed it.
func failed(w http.ResponseWriter, err error) {
	if errors.Is(err, replicated.ErrMasterBusy) { // all slaves are away, and the master has enough to do
		w.Header().Set("Retry-After", "5")
		http.Error(w, "busy, try again", http.StatusServiceUnavailable)
		return
	}
	http.Error(w, "cannot read", http.StatusInternalServerError)
}

// follower keeps the plugin's slaves to the addresses that a name leads to.
type follower struct {
	name   string
	lookup func(ctx context.Context, host string) ([]string, error) // net.Resolver.LookupHost
	slave  func(address string) gorm.Dialector
	set    func(...gorm.Dialector) error // Plugin.SetSlaves

	addresses []string // as they were set last, in order
}

// run looks again and again, until ctx ends.
func (f *follower) run(ctx context.Context, every time.Duration) {
	ticker := time.NewTicker(every)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			f.look(ctx)
		}
	}
}

// look sets the slaves if the name leads elsewhere than before. A resolver that fails, or knows of none, says
// nothing of the servers: then they stay. What could not be set is tried again at the next look.
func (f *follower) look(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	found, err := f.lookup(ctx, f.name)
	if err == nil && len(found) == 0 {
		err = errors.New("no addresses")
	}
	if err != nil {
		log.Printf("%s: %v; the slaves stay %v", f.name, err, f.addresses)
		return
	}
	slices.Sort(found) // a resolver turns them round
	found = slices.Compact(found)
	if slices.Equal(found, f.addresses) {
		return
	}
	slaves := make([]gorm.Dialector, len(found))
	for i, address := range found {
		slaves[i] = f.slave(address)
	}
	if err := f.set(slaves...); err != nil {
		log.Printf("%s leads to %v: %v; the slaves stay %v", f.name, found, err, f.addresses)
		return
	}
	log.Printf("%s leads to %v, and no longer to %v", f.name, found, f.addresses)
	f.addresses = found
}

// slavesOf returns the name in a DSN, and what makes a slave of an address in its place. Slaves of one
// address have the same DSN each time, by which SetSlaves knows those that stay. With tls=true in the DSN,
// the servers' certificates have to be for their addresses. Otherwise let the DSN name a configuration with a
// ServerName: see mysql.RegisterTLSConfig of the driver.
func slavesOf(dsn string) (name string, slave func(address string) gorm.Dialector, err error) {
	cfg, err := driver.ParseDSN(dsn)
	if err != nil {
		return "", nil, errors.New("SLAVES_DSN cannot be parsed; it is not shown, since it may hold a password")
	}
	name, port, err := net.SplitHostPort(cfg.Addr)
	if err != nil || cfg.Net != "tcp" {
		return "", nil, fmt.Errorf("SLAVES_DSN: want tcp(name:port), not %s(%s)", cfg.Net, cfg.Addr)
	}
	return name, func(address string) gorm.Dialector {
		one := cfg.Clone()
		one.Addr = net.JoinHostPort(address, port) // with brackets around IPv6
		return mysql.Open(one.FormatDSN())
	}, nil
}
