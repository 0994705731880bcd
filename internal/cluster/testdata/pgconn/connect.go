// Package pgconn has an error with the name of pgx's, which this module does not need otherwise.
package pgconn

// ConnectError is that of a connection that could not be made, for any reason.
type ConnectError struct{ Cause error }

func (e *ConnectError) Error() string { return "failed to connect: " + e.Cause.Error() }
func (e *ConnectError) Unwrap() error { return e.Cause }
