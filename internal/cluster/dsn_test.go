package cluster

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// other is a dialector as those of other databases are built.
type other struct {
	gorm.Dialector
	*otherConfig
}

type otherConfig struct{ DSN string }

func TestAddress(t *testing.T) {
	for _, test := range []struct {
		name string
		d    gorm.Dialector
		want string
	}{
		{"MySQL", mysql.Open("app:secret@tcp(db1:3307)/shop"), "db1:3307"},
		{"MySQL, default port", mysql.Open("app:secret@tcp(db1)/shop"), "db1:3306"},
		{"MySQL, IPv6", mysql.Open("app:secret@tcp([::1]:3306)/shop"), "[::1]:3306"},
		{"MySQL, socket", mysql.Open("app:secret@unix(/run/mysqld.sock)/shop"), "/run/mysqld.sock"},
		{"MySQL by value", mysql.Dialector{Config: &mysql.Config{DSN: "app:secret@tcp(db1:3307)/shop"}}, "db1:3307"},
		{"MySQL, broken DSN", mysql.Open("app:secret"), ""},
		{"MySQL, without Config", &mysql.Dialector{}, ""},
		{"URL", other{otherConfig: &otherConfig{"postgres://app:secret@db1:5433/shop?sslmode=disable"}}, "db1:5433"},
		{"URL, no port", other{otherConfig: &otherConfig{"postgres://app:secret@db1/shop"}}, "db1"},
		{"keys and values", other{otherConfig: &otherConfig{"user=app password='se cret' host=db1 port=5433"}}, "db1:5433"},
		{"keys and values, no port", other{otherConfig: &otherConfig{"host=db1 user=app"}}, "db1"},
		{"a file", other{otherConfig: &otherConfig{"/var/lib/app.db?_pragma=foreign_keys(1)"}}, ""},
		{"no Config", other{}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := Address(test.d); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestRedact(t *testing.T) {
	const password = "s3cr3t p4ss"
	for _, dsn := range []string{
		"postgres://app:" + strings.ReplaceAll(password, " ", "%20") + "@db1/shop",
		"host=db1 password='" + password + "' port=1",
		"server=db1;Pwd=" + password + ";",
		"app:" + password + "@tcp(db1)/shop",
	} {
		t.Run(dsn, func(t *testing.T) {
			d := other{otherConfig: &otherConfig{dsn}}
			err := redact(fmt.Errorf("cannot open %s: %w", dsn, errors.New("bad password "+password)), d)
			for err := err; err != nil; err = errors.Unwrap(err) {
				if strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("left: %v", err)
				}
			}
			if !strings.Contains(err.Error(), "cannot open") {
				t.Errorf("nothing is left: %v", err)
			}
		})
	}
	plain := errors.New("no such host")
	if got := redact(plain, other{otherConfig: &otherConfig{"host=db1 password=x"}}); got != plain {
		t.Errorf("an error without a credential became %v", got)
	}
}
