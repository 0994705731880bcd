package cluster

import (
	"errors"
	"net"
	"net/url"
	"reflect"
	"regexp"
	"strings"

	"gorm.io/driver/mysql"
	"gorm.io/gorm"
)

// Address returns host:port, or the path of a Unix socket, where d's DSN
// shows it; otherwise "". It never holds a credential.
func Address(d gorm.Dialector) string {
	switch d := d.(type) {
	case *mysql.Dialector:
		return mysqlAddress(d.Config)
	case mysql.Dialector:
		return mysqlAddress(d.Config)
	}
	if u, err := url.Parse(dsn(d)); err == nil && u.Host != "" {
		return u.Host
	}
	var host, port string
	for _, pair := range keyValue.FindAllStringSubmatch(dsn(d), -1) {
		switch pair[1] {
		case "host":
			host = strings.Trim(pair[2], "'")
		case "port":
			port = pair[2]
		}
	}
	if host != "" && port != "" {
		return net.JoinHostPort(host, port)
	}
	return host
}

func mysqlAddress(cfg *mysql.Config) string {
	if cfg == nil || cfg.Conn != nil {
		return ""
	}
	if cfg = mysql.New(*cfg).(*mysql.Dialector).Config; cfg.DSNConfig == nil {
		return ""
	}
	return cfg.DSNConfig.Addr
}

// keyValue matches the pairs of a DSN such as PostgreSQL's
// "host=db1 port=5432 password='a b'".
var keyValue = regexp.MustCompile(`(?i)\b([a-z_]+)\s*=\s*('(?:[^'\\]|\\.)*'|[^\s;&]*)`)

// redact returns err without what may be a credential of d. Its text alone is
// kept: what err wraps could be asked for the rest.
func redact(err error, d gorm.Dialector) error {
	dsn := dsn(d)
	if dsn == "" {
		return err
	}
	secrets := []string{dsn}
	if u, parseErr := url.Parse(dsn); parseErr == nil && u.User != nil {
		if password, ok := u.User.Password(); ok {
			secrets = append(secrets, u.User.String(), password)
		}
	}
	if at := strings.LastIndexByte(dsn, '@'); at >= 0 { // user:password@…
		_, credentials, _ := strings.Cut(dsn[:at], "://")
		if credentials == "" {
			credentials = dsn[:at]
		}
		if _, password, ok := strings.Cut(credentials, ":"); ok {
			secrets = append(secrets, password)
		}
	}
	for _, pair := range keyValue.FindAllStringSubmatch(dsn, -1) {
		if name := strings.ToLower(pair[1]); strings.Contains(name, "pass") || name == "pwd" {
			secrets = append(secrets, pair[2], strings.Trim(pair[2], "'"))
		}
	}
	text := err.Error()
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "…")
		}
	}
	if text == err.Error() {
		return err
	}
	return errors.New(text)
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

// readyMade tells whether d brings its pool ready-made, in the field that dialectors have for that by convention.
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
