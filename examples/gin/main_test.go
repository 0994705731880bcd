package main

import (
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/gin-gonic/gin"

	"github.com/gorm-replicated/replicated/examples/internal/servers"
)

func TestRoutes(t *testing.T) {
	gin.SetMode(gin.TestMode)
	pair := servers.Start(t, &Note{})
	if err := pair.Slave.Create(&Note{Text: "from the slave"}).Error; err != nil {
		t.Fatal(err)
	}
	handler := pair.Plugin.Middleware(routes(pair.DB))
	for _, tt := range []struct {
		method, path string
		form         url.Values
		status       int
		body         string
		route        string
	}{
		{"GET", "/notes", nil, http.StatusOK, "from the slave", "slave-1: method"},
		{"POST", "/notes", url.Values{"text": {"from the master"}}, http.StatusCreated, "", "master: write"},
		{"GET", "/notes", nil, http.StatusOK, "from the slave", "slave-1: method"},
		{"GET", "/fresh", nil, http.StatusOK, "from the master", "master: context"},
	} {
		t.Run(tt.method+" "+tt.path, func(t *testing.T) {
			status, body, routes := pair.Serve(handler, tt.method, tt.path, tt.form)
			if status != tt.status || !strings.Contains(body, tt.body) || !slices.Equal(routes, []string{tt.route}) {
				t.Errorf("status %d, body %q, routes %q; want %d, %q, %q", status, body, routes, tt.status, tt.body, tt.route)
			}
		})
	}
	var onSlave, onMaster int64
	if err := pair.Slave.Model(&Note{}).Count(&onSlave).Error; err != nil {
		t.Fatal(err)
	}
	if err := pair.DB.Model(&Note{}).Count(&onMaster).Error; err != nil {
		t.Fatal(err)
	}
	if onSlave != 1 || onMaster != 1 {
		t.Errorf("%d notes on the slave, %d on the master; want 1 and 1", onSlave, onMaster)
	}
}
