package cluster

import (
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
		{"MySQL by value", mysql.Dialector{Config: &mysql.Config{DSN: "app:secret@tcp(db1:3307)/shop"}},
			"db1:3307"},
		{"MySQL, broken DSN", mysql.Open("app:secret"), ""},
		{"MySQL, without Config", &mysql.Dialector{}, ""},
		{"URL", other{otherConfig: &otherConfig{"postgres://app:secret@db1:5433/shop?sslmode=disable"}},
			"db1:5433"},
		{"URL, no port", other{otherConfig: &otherConfig{"postgres://app:secret@db1/shop"}}, "db1"},
		{"keys and values", other{otherConfig: &otherConfig{"user=app password='se cret' host=db1 port=5433"}},
			"db1:5433"},
		{"keys and values, no port", other{otherConfig: &otherConfig{"host=db1 user=app"}}, "db1"},
		{"MySQL, network left out", mysql.Open("app:secret(127.0.0.1:1)/shop"), ""},
		{"MySQL, a network of its own", mysql.Open("app:secret@secret(db1:3307)/shop"), ""},
		{"URL, a slash in the password", other{otherConfig: &otherConfig{"postgres://app:1234/x@db1/shop"}}, ""},
		{"URL, no password", other{otherConfig: &otherConfig{"postgres://app@db1/shop"}}, ""},
		{"keys and values, no host", other{otherConfig: &otherConfig{"host= password=secret"}}, ""},
		{"keys and values, twice", other{otherConfig: &otherConfig{"host=db1 user=app password=se host=cret"}}, ""},
		{"keys and values, no quote", other{otherConfig: &otherConfig{"user=app password='se host=cret"}}, ""},
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
