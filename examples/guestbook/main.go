// Command guestbook is a small web application on one master and two slaves, made to watch the plugin at
// work: every page says which server answered its queries, and why.
//
//	go run -C examples ./guestbook                                  # SQLite files, which replay a log
//	go run -C examples ./guestbook -tour                            # no browser: print who answers what
//	go run -C examples ./guestbook -master DSN -slave DSN -slave DSN   # MySQL or MariaDB
package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second interrupt does not wait
	switch err := run(ctx, os.Args[1:], os.Stdout); {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "guestbook:", err)
		os.Exit(1)
	}
}

// dsns collects the values of a flag that may be given several times.
type dsns []string

func (d *dsns) String() string     { return strings.Join(*d, " ") }
func (d *dsns) Set(s string) error { *d = append(*d, s); return nil }

func run(ctx context.Context, args []string, out io.Writer) (err error) {
	var slaves dsns
	flags := flag.NewFlagSet("guestbook", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // errors are returned; help is printed below
	addr := flags.String("addr", "127.0.0.1:8080", "`address` to listen on")
	tour := flags.Bool("tour", false,
		"do not serve; walk through the guestbook, print who answered, and fail if it is not as expected.\n"+
			"With -master it leaves its entries in your table guestbook_entries")
	master := flags.String("master", "",
		"`DSN` of a MySQL or MariaDB master, such as user:password@tcp(127.0.0.1:3306)/database.\n"+
			"Without it the guestbook lives in SQLite files of its own, removed at the end")
	flags.Var(&slaves, "slave", "`DSN` of a slave of -master; may be given several times")
	if err := flags.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			flags.SetOutput(out)
			flags.Usage()
		}
		return err
	}
	switch {
	case flags.NArg() > 0:
		return fmt.Errorf("unexpected argument %q", flags.Arg(0))
	case (*master == "") != (len(slaves) == 0):
		return errors.New("-master and -slave go together")
	}

	var b *backend
	if *master == "" {
		b, err = openFiles()
	} else {
		b, err = openServers(ctx, *master, slaves)
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, b.Close()) }()
	secret := make([]byte, 32) // of this process alone: several instances would need the same one
	rand.Read(secret)          // cannot fail
	s, err := newSite(ctx, b, secret)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()

	if *tour {
		*addr = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", *addr)
	if err != nil {
		return err
	}
	url := "http://" + listener.Addr().String() + "/"
	if *tour {
		ctx, cancel := context.WithCancel(ctx)
		served := make(chan error, 1)
		go func() { served <- serve(ctx, listener, s.Handler()) }()
		err := runTour(ctx, url, b.slaveNames(), b.replication != nil, out)
		cancel()
		return errors.Join(err, <-served)
	}
	fmt.Fprintln(out, "The guestbook is at", url)
	return serve(ctx, listener, s.Handler())
}

// serve serves until ctx ends, and then lets the requests under way finish.
func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
		WriteTimeout:      20 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(slog.Default().Handler(), slog.LevelWarn),
	}
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err := <-served:
		return err
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := server.Shutdown(patience)
	if err != nil {
		err = errors.Join(err, server.Close())
	}
	<-served // http.ErrServerClosed
	return err
}
