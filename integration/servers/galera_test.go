package servers

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// TestTransferReadsItsInput: a donor that ends before it has read what the server writes to it fails the
// transfer.
func TestTransferReadsItsInput(t *testing.T) {
	file := filepath.Join(t.TempDir(), "data.from")
	cmd := exec.Command("/bin/sh", "-c", transfer, "transfer", "--role", "donor", "--address", file,
		"--gtid", "cluster:5", "--gtid-domain-id", "0", "--bypass")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// More than a pipe holds, so that it does not depend on who is faster.
	if _, err := in.Write([]byte(strings.Repeat("sst_user=\n", 1<<17))); err != nil {
		t.Errorf("writing an account to the donor: %v", err)
	}
	if err := in.Close(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%v: %s", err, &out)
	}
	if out.String() != "continue\ndone cluster:5\n" {
		t.Errorf("it told the server %q", &out)
	}
	if from, err := os.ReadFile(file); err != nil || string(from) != "cluster:5 0\n" {
		t.Errorf("it told the node that joins %q, %v", from, err)
	}
}
