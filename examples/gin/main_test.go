package main

import (
	"net/http"
	"net/url"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/gorm-replicated/replicated/examples/internal/servers"
)

func TestRoutes(t *testing.T) {
	gin.SetMode(gin.TestMode)
	pair := servers.Start(t, &Note{})
	pair.Check(t, pair.Plugin.Middleware(routes(pair.DB)), []servers.Step{
		{Method: "GET", Path: "/notes", Status: http.StatusOK, Body: "from the slave", Route: "slave-1: method"},
		{Method: "POST", Path: "/notes", Form: url.Values{"text": {"from the master"}}, Status: http.StatusCreated,
			Route: "master: write"},
		{Method: "GET", Path: "/notes", Cookie: true, Status: http.StatusOK, Body: "from the master",
			Route: "master: no slave covers the token"},
		{Method: "GET", Path: "/notes", Status: http.StatusOK, Body: "from the slave", Route: "slave-1: method"},
		{Method: "GET", Path: "/fresh", Status: http.StatusOK, Body: "from the master", Route: "master: context"},
	})
}
