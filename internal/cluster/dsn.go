package cluster

import (
	"net"
	"net/url"
	"reflect"
	"regexp"
	"strings"

	mysqldriver "github.com/go-sql-driver/mysql"
	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// Address returns host:port, or the path of a Unix socket, where d's DSN shows it; otherwise "". A DSN with a
// mistake in it may have a password where an address belongs. So Address returns nothing that does not look
// like one, and of a URL nothing unless a password stands before it, where it belongs.
func Address(d gorm.Dialector) string {
	address := addressOf(d)
	if cfg := mysqlConfig(d); cfg != nil {
		if cfg.Net == "unix" && socket.MatchString(address) {
			return address
		}
		if !strings.HasPrefix(cfg.Net, "tcp") {
			return ""
		}
	} else if u := hostURL(d); u != nil {
		if password, _ := u.User.Password(); password == "" {
			return ""
		}
	}
	if host, port, err := net.SplitHostPort(address); err == nil && net.ParseIP(host) != nil &&
		ports.MatchString(port) {
		return address
	}
	if hostPort.MatchString(address) {
		return address
	}
	return ""
}

var (
	ports    = regexp.MustCompile(`^[0-9]{1,5}(,[0-9]{1,5})*$`)
	hostPort = regexp.MustCompile(`^[A-Za-z0-9._,-]+(:[0-9]{1,5}(,[0-9]{1,5})*)?$`)
	socket   = regexp.MustCompile(`^/[A-Za-z0-9._/-]+$`)
)

// addressOf returns what d's DSN has where an address belongs: to compare, not to be shown.
func addressOf(d gorm.Dialector) string {
	if cfg := mysqlConfig(d); cfg != nil {
		return cfg.Addr
	}
	if u := hostURL(d); u != nil {
		return u.Host
	}
	host, port := valueOf(dsn(d), "host"), valueOf(dsn(d), "port")
	if host != "" && port != "" {
		return net.JoinHostPort(host, port)
	}
	return host
}

// mysqlConfig returns how a dialector of MySQL's connects, nil if that cannot be seen.
func mysqlConfig(d gorm.Dialector) *mysqldriver.Config {
	var cfg *mysql.Config
	switch d := d.(type) {
	case *mysql.Dialector:
		cfg = d.Config
	case mysql.Dialector:
		cfg = d.Config
	}
	if cfg == nil || cfg.Conn != nil {
		return nil
	}
	return mysql.New(*cfg).(*mysql.Dialector).DSNConfig
}

// hostURL returns d's DSN if it is a URL with a host, otherwise nil.
func hostURL(d gorm.Dialector) *url.URL {
	if u, err := url.Parse(dsn(d)); err == nil && u.Host != "" {
		return u
	}
	return nil
}

// keyValue matches the first pair of a DSN such as PostgreSQL's "host=db1 port=5432 password='a b'".
var keyValue = regexp.MustCompile(`^\s*(\w+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s']*)(?:\s+|$)`)

// valueOf returns the value of a key in a DSN of pairs, "" unless all of the DSN is pairs, and the key is in
// one.
func valueOf(dsn, key string) string {
	value, found := "", 0
	for dsn != "" {
		pair := keyValue.FindStringSubmatch(dsn)
		if pair == nil {
			return ""
		}
		if strings.EqualFold(pair[1], key) {
			value = strings.Trim(pair[2], "'")
			found++
		}
		dsn = dsn[len(pair[0]):]
	}
	if found != 1 {
		return ""
	}
	return value
}

// dsn returns the DSN field that dialectors have by convention, directly or in
// the Config they embed; "" if d has none.
func dsn(d gorm.Dialector) string {
	if f := fieldOf(d, "DSN"); f.Kind() == reflect.String {
		return f.String()
	}
	return ""
}

// originOf returns what d opens its pool by, "" if that cannot be seen.
func originOf(d gorm.Dialector) string {
	if d, ok := d.(*mysql.Dialector); ok && d.Config != nil && d.DSN == "" && d.DSNConfig != nil {
		return d.DSNConfig.FormatDSN()
	}
	return dsn(d)
}

// readyMade tells whether d brings its pool ready-made, in the field that dialectors have for that by
// convention.
func readyMade(d gorm.Dialector) bool {
	f := fieldOf(d, "Conn")
	return f.Kind() == reflect.Interface && !f.IsNil()
}

// fieldOf returns a field of a dialector or of the Config it embeds, or the zero value.
func fieldOf(d gorm.Dialector, name string) reflect.Value {
	v := reflect.ValueOf(d)
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	if v.Kind() != reflect.Struct {
		return reflect.Value{}
	}
	field, ok := v.Type().FieldByName(name)
	if !ok {
		return reflect.Value{}
	}
	f, err := v.FieldByIndexErr(field.Index)
	if err != nil { // the embedded Config is nil
		return reflect.Value{}
	}
	return f
}
