package main

import (
	"fmt"
	"os"
	"strings"
)

// explained has, for a mutant that changes nothing that matters, why. A line of the list is
//
//	internal/position/mysql.go: subtract: o.first > i.last → o.first >= i.last // why
//
// so it goes on to match wherever the lines of the code move to. It matches no longer if the code changes.
type explained map[string]string

func readExplained(path string) (explained, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	list := make(explained)
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		i := strings.LastIndex(line, " // ")
		if i < 0 {
			return nil, fmt.Errorf("%s: it is not said why: %s", path, line)
		}
		if list[line[:i]] != "" {
			return nil, fmt.Errorf("%s: twice: %s", path, line[:i])
		}
		list[line[:i]] = line[i+len(" // "):]
	}
	return list, nil
}

func (m mutant) key() string { return m.file + ": " + m.change }
