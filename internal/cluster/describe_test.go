package cluster

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

const secret = "S3cretPw"

// lies is somebody's error, which claims to be one of a server.
type lies struct{ state string }

func (e lies) Error() string    { return secret }
func (e lies) SQLState() string { return e.state }

func TestDescribe(t *testing.T) {
	address := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 3306, Zone: secret}
	refused := &net.OpError{
		Op: "dial", Net: "tcp", Addr: address, Err: os.NewSyscallError("connect", syscall.ECONNREFUSED),
	}
	for _, test := range []struct {
		err  error
		want string
	}{
		{errHangs, errHangs.Error()},
		{fmt.Errorf("%s: %w", secret, errUnparsed), errUnparsed.Error()},
		{&mysqldriver.MySQLError{Number: 1045, Message: secret}, "MySQL error 1045: access denied"},
		{&mysqldriver.MySQLError{Number: 3141, Message: secret}, "MySQL error 3141"},
		{lies{"28P01"}, "SQLSTATE 28P01: wrong password"},
		{lies{"22P02"}, "SQLSTATE 22P02"},
		{lies{"08P01"}, "SQLSTATE 08P01: protocol violation"},
		{fmt.Errorf("FATAL: server login has been failing, cached error: %s: %w", secret, lies{"08P01"}),
			"SQLSTATE 08P01: PgBouncer: server login has been failing"},
		{lies{secret}, "an error of type cluster.lies, whose words may hold a secret"},
		{sqliteCode(14), "error code 14"},
		{refused, "dial 192.0.2.1:3306: connection refused"},
		{fmt.Errorf("%s: %w", secret, refused), "dial 192.0.2.1:3306: connection refused"},
		{&net.OpError{Op: secret, Net: secret, Err: errors.New(secret)},
			"network: an error of type *errors.errorString, whose words may hold a secret"},
		{&net.OpError{Op: "dial", Net: secret, Err: net.UnknownNetworkError(secret)}, "dial: unknown network"},
		{&net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: secret, Name: secret, IsNotFound: true}},
			"dial: no such host"},
		{&net.DNSError{Err: secret, Name: secret, IsTimeout: true}, "timed out"},
		{fmt.Errorf("%s: %w", secret, context.DeadlineExceeded), "context deadline exceeded"},
		{errors.Join(errors.New(secret), io.ErrUnexpectedEOF), "unexpected EOF"},
		{driver.ErrBadConn, "driver: bad connection"},
		{&tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}},
			"the server's certificate cannot be verified"},
		{errors.Join(fmt.Errorf("%s: %w", secret, errors.New(secret))),
			"an error of type *errors.errorString, whose words may hold a secret"},
	} {
		if got := Describe(test.err); got != test.want {
			t.Errorf("%#v: %q, want %q", test.err, got, test.want)
		}
	}
}

// TestDescribed has an error found by who asks for it, and shown to nobody.
func TestDescribed(t *testing.T) {
	quoting := func(cause error) error { return described{fmt.Errorf("%s: %w", secret, cause)} }
	err := fmt.Errorf("Slaves[0]: %w", quoting(&mysqldriver.MySQLError{Number: 1045}))
	var number *mysqldriver.MySQLError
	if !errors.As(err, &number) || number.Number != 1045 {
		t.Errorf("got %v", number)
	}
	if err := quoting(io.EOF); !errors.Is(err, io.EOF) || errors.Is(err, io.ErrClosedPipe) {
		t.Error("got another error")
	}
	for e := err; e != nil; e = errors.Unwrap(e) {
		if strings.Contains(e.Error(), secret) {
			t.Errorf("shown: %v", e)
		}
	}
}

func TestPanicked(t *testing.T) {
	if got := panicked("opening panicked", errors.New(secret)).Error(); strings.Contains(got, secret) {
		t.Error(got)
	}
	defer func() {
		if got := panicked("opening panicked", recover()).Error(); !strings.Contains(got, "nil pointer") {
			t.Errorf("Go's own words are gone: %s", got)
		}
	}()
	var server *Server
	runtime.KeepAlive(server.ID)
}

// wellFormed are DSNs with a password, of the kinds that people write. URLs and pairs are for a dialector
// whose driver repeats what it was given, as drivers do.
var wellFormed = []string{
	"app:" + secret + "@tcp(127.0.0.1:1)/shop?parseTime=true",
	"app:" + secret + "@tcp([::1]:1)/shop",
	"app:" + secret + "@unix(/run/no.sock)/shop",
	"postgres://app:" + secret + "@127.0.0.1:1/shop?sslmode=disable",
	"postgresql://app:" + secret + "@db1.internal/shop",
	"host=127.0.0.1 port=1 user=app password=" + secret + " dbname=shop",
	"user=app password='" + secret + "' host=db1 port=1",
}

// malformed are mistakes that people make, each of which once showed the password.
var malformed = []string{
	"app:" + secret + "(127.0.0.1:1)/shop",
	"app:" + secret + "@(127.0.0.1:1/shop",
	"app:" + secret + "/shop",
	"postgres://app:" + secret + "/x@h/db",
	"postgres://app:" + secret + "#x@h/db",
	"postgres://app:" + secret + "?x@h/db",
	"postgres://app:" + secret + "h:5432/db",
	"postgres://app@" + secret + ":5432/db",
	"postgres://app:12%zz" + secret + "@h/db",
	"host= password=" + secret,
	"host=h password='" + secret,
}

// quoting is a dialector whose driver repeats the DSN in its errors.
type quoting struct {
	gorm.Dialector
	DSN string
}

func (d quoting) Name() string              { return "quoting" }
func (d quoting) Initialize(*gorm.DB) error { return fmt.Errorf("cannot parse `%s`", d.DSN) }

// shown returns all that is said of servers with this DSN: their names, and why they cannot be opened, or
// reached.
func shown(t testing.TB, dsn string) []string {
	var all []string
	for _, d := range []gorm.Dialector{mysql.Open(dsn), quoting{DSN: dsn}} {
		all = append(all, Address(d))
		own := NewServer("master", nil, nil, 0, 0)
		specs := []Spec{{Field: "Slaves[0]", ID: "slave-1", Dialector: d}}
		servers, err := Open(own, specs)
		if err != nil {
			all = append(all, err.Error())
			continue
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel() // a mangled address may lead anywhere: nobody is called
		if err := Ping(ctx, servers, specs); err != nil {
			all = append(all, err.Error())
		}
		Discard(servers)
	}
	return all
}

func TestNoPassword(t *testing.T) {
	for _, dsn := range slices.Concat(wellFormed, malformed) {
		for _, text := range shown(t, dsn) {
			if strings.Contains(text, secret) {
				t.Errorf("%s: shown: %s", dsn, text)
			}
		}
	}
	// The check can fail: a driver's own words do quote it.
	if err := (quoting{DSN: wellFormed[0]}).Initialize(nil); !strings.Contains(err.Error(), secret) {
		t.Errorf("this test sees nothing: %v", err)
	}
}

// FuzzNoPassword makes mistakes in DSNs, around the password: it must never be shown.
func FuzzNoPassword(f *testing.F) {
	for i := range wellFormed {
		f.Add(uint8(i), uint64(i), uint8(1))
		f.Add(uint8(i), uint64(i), uint8(2))
	}
	f.Fuzz(func(t *testing.T, which uint8, seed uint64, edits uint8) {
		dsn := wellFormed[int(which)%len(wellFormed)]
		random := rand.New(rand.NewPCG(seed, 1))
		for range edits % 3 {
			dsn = mangle(random, dsn)
		}
		for _, text := range shown(t, dsn) {
			if strings.Contains(text, secret) {
				t.Errorf("%q: shown: %s", dsn, text)
			}
		}
	})
}

// mangle makes one mistake in dsn, but not in the password.
func mangle(random *rand.Rand, dsn string) string {
	at := random.IntN(len(dsn))
	start := strings.Index(dsn, secret)
	if end := start + len(secret); at >= start && at < end {
		at = end
	}
	const likely = ":@/?#()=' ;&%[]"
	wrong := string(likely[random.IntN(len(likely))])
	rest := dsn[min(at+1, len(dsn)):]
	switch random.IntN(4) {
	case 0:
		return dsn[:at] + rest
	case 1:
		return dsn[:at] + wrong + dsn[at:]
	case 2:
		return dsn[:at] + wrong + rest
	}
	return strings.Replace(dsn, wrong, "", 1)
}
