package cluster

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"reflect"
	"time"
)

// connectError is the error of a connection that could not be made. Its text tells nothing for certain: a
// statement can raise the same.
type connectError struct{ error }

func (e *connectError) Unwrap() error { return e.error }

// connector is the driver's, and wraps its errors. The connections are the driver's own.
type connector struct {
	driver.Connector
	source *sql.DB // which the dialector opened, and may have kept for itself; closed with the pool
}

// Connect returns a connectError unless ctx has ended: then it is for its owner to say so.
func (c *connector) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := c.Connector.Connect(ctx)
	if err != nil && !over(ctx) {
		err = &connectError{err}
	}
	return conn, err
}

// Close is what database/sql calls when the pool is closed.
func (c *connector) Close() error { return c.source.Close() }

// over tells whether ctx has ended, or is about to: what waits for the same deadline may be a little earlier.
func over(ctx context.Context) bool {
	deadline, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(deadline)
}

// placing returns a pool like source, which a dialector has just opened, that tells connecting apart from
// executing. It returns nil if there is no way to: database/sql does not hand out the connector that it was
// given.
func placing(source *sql.DB) *sql.DB {
	f := reflect.ValueOf(source).Elem().FieldByName("connector")
	if !f.IsValid() || f.Type() != reflect.TypeFor[driver.Connector]() {
		return nil
	}
	return sql.OpenDB(&connector{*(*driver.Connector)(f.Addr().UnsafePointer()), source})
}

// PlaceOf tells where the server failed a statement with err.
func (s *Server) PlaceOf(err error) Place {
	var e *connectError
	switch {
	case errors.As(err, &e):
		return Connecting
	case s.placing:
		return Executing
	}
	return Anywhere
}
