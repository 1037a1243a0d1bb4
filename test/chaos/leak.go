// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package chaos

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// Holdings are what a program holds at a moment, by what it is for.
type Holdings struct {
	// Goroutines are counted by the function that they began with.
	Goroutines map[string]int
	// Files are counted by what they are: a path's directory, or which end of a connection.
	Files map[string]int
}

// room is how much more than before a program may hold of one thing when nothing is asked
// of it any more: a periodic task may be under way. What leaks does so with each fault or
// machine, and there are dozens of either.
const room = 3

// roomForConnections is that of connections that are kept for the next call. How many there
// are says how many calls came at once before, which is one for each machine; the driver
// asks a vCenter 32 things at once at most, and closes what has been idle for 5 minutes.
func roomForConnections(machines int) int { return 2*room + min(machines, 32) }

// leaked is not nil if a program holds much more than before of anything, after a time with
// so many machines; it says of what.
func leaked(before, after map[string]Holdings, machines int) error {
	var errs []error
	more := func(program, what string, before, after map[string]int) {
		for _, of := range slices.Sorted(maps.Keys(after)) {
			allowed := room
			if isConnection(of) {
				allowed = roomForConnections(machines)
			}
			if after[of] > before[of]+allowed {
				errs = append(errs, fmt.Errorf("%s has %d %s %s, before the faults %d", program, after[of], what, of, before[of]))
			}
		}
	}
	for _, program := range slices.Sorted(maps.Keys(before)) {
		was, now := before[program], after[program]
		if len(now.Goroutines) == 0 {
			errs = append(errs, fmt.Errorf("%s does not say what it holds", program))
			continue
		}
		more(program, "goroutines of", was.Goroutines, now.Goroutines)
		more(program, "open files of", was.Files, now.Files)
	}
	return errors.Join(errs...)
}

// isConnection says whether a file or a function belongs to a connection, of HTTP or gRPC.
func isConnection(of string) bool {
	for _, prefix := range []string{"connection ", "unix socket", "net/http.", "golang.org/x/net/http2.", "google.golang.org/grpc/internal/transport."} {
		if strings.HasPrefix(of, prefix) {
			return true
		}
	}
	return false
}

// holdings asks all programs of the Pod. One that does not answer is missing.
func (w *World) holdings(ctx context.Context) map[string]Holdings {
	w.mu.Lock()
	at, pids := w.Stack.Profiles(), map[string]int{}
	for _, p := range w.Stack.Processes() {
		pids[p.Name()] = p.PID()
	}
	w.mu.Unlock()
	all := map[string]Holdings{}
	for name, url := range at {
		goroutines, err := profile(ctx, url+"goroutine?debug=1")
		if err != nil {
			continue
		}
		files, err := filesOf("/proc", pids[name])
		if err != nil {
			continue
		}
		all[name] = Holdings{Goroutines: goroutines, Files: files}
	}
	return all
}

// profile reads a profile of goroutines.
func profile(ctx context.Context, url string) (map[string]int, error) {
	ctx, cancel := context.WithTimeout(ctx, scrapeTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("make a request for a profile: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return nil, fmt.Errorf("get a profile: %w", err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("get a profile: %s", response.Status)
	}
	return begins(response.Body)
}

// wrappers begin goroutines for others: whom for, the next function says.
func wrappers() []string {
	return []string{"sync.(*WaitGroup).Go", "golang.org/x/sync/errgroup.", "k8s.io/apimachinery/pkg/util/wait."}
}

// begins counts the goroutines of a profile in pprof's text form by the functions that
// they began with: the last one of each stack that is no wrapper.
func begins(text io.Reader) (map[string]int, error) {
	counts := map[string]int{}
	count, begin := 0, ""
	done := func() {
		if count > 0 && begin != "" {
			counts[begin] += count
		}
		count, begin = 0, ""
	}
	lines := bufio.NewScanner(text)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := lines.Text()
		if number, _, ok := strings.Cut(line, " @ "); ok {
			done()
			var err error
			if count, err = strconv.Atoi(number); err != nil {
				return nil, fmt.Errorf("read the profile's line %q: %w", line, err)
			}
			continue
		}
		// "#	0x47b1b4	net/http.(*Server).Serve+0x54	/usr/lib/go/src/net/http/server.go:3"
		fields := strings.Split(line, "\t")
		if len(fields) < 3 || fields[0] != "#" {
			continue
		}
		function, _, _ := strings.Cut(fields[2], "+0x")
		if begin == "" || !slices.ContainsFunc(wrappers(), func(of string) bool { return strings.HasPrefix(function, of) }) {
			begin = function
		}
	}
	done()
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("read the profile: %w", err)
	}
	if len(counts) == 0 {
		return nil, errors.New("the profile has no goroutines")
	}
	return counts, nil
}

// filesOf counts the open files of a process by what they are.
func filesOf(proc string, pid int) (map[string]int, error) {
	dir := filepath.Join(proc, strconv.Itoa(pid))
	open, err := os.ReadDir(filepath.Join(dir, "fd"))
	if err != nil {
		return nil, fmt.Errorf("list the open files: %w", err)
	}
	sockets, err := socketsIn(filepath.Join(dir, "net", "tcp"))
	if err != nil {
		return nil, err
	}
	files := map[string]int{}
	for _, entry := range open {
		to, err := os.Readlink(filepath.Join(dir, "fd", entry.Name()))
		if err != nil {
			continue // it was closed meanwhile
		}
		switch inode, isSocket := strings.CutPrefix(to, "socket:"); {
		case isSocket && sockets[inode] != "":
			files[sockets[inode]]++
		case isSocket:
			files["unix socket"]++
		case strings.HasPrefix(to, "/"):
			files[filepath.Dir(to)]++ // the names of temporary files differ
		default:
			kind, _, _ := strings.Cut(to, ":[")
			files[kind]++
		}
	}
	return files, nil
}

// socketsIn says what the TCP sockets of the kernel's table are, by inode in brackets.
func socketsIn(table string) (map[string]string, error) {
	text, err := os.ReadFile(table)
	if err != nil {
		return nil, fmt.Errorf("read the kernel's sockets: %w", err)
	}
	const local, remote, state, inode, listening = 1, 2, 3, 9, "0A"
	var rows [][]string
	served := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) <= inode || fields[0] == "sl" {
			continue
		}
		rows = append(rows, fields)
		if fields[state] == listening {
			served[port(fields[local])] = true
		}
	}
	kinds := map[string]string{}
	for _, fields := range rows {
		kind := "connection to port " + port(fields[remote])
		switch {
		case fields[state] == listening:
			kind = "listening socket"
		case served[port(fields[local])]:
			kind = "connection from others"
		}
		kinds["["+fields[inode]+"]"] = kind
	}
	return kinds, nil
}

// port is that of an address such as 0100007F:1F90.
func port(address string) string {
	_, hex, _ := strings.Cut(address, ":")
	number, err := strconv.ParseUint(hex, 16, 16)
	if err != nil {
		return address
	}
	return strconv.FormatUint(number, 10)
}
