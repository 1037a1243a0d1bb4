// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"io"
	"os"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// openTerminal returns the user's end of a terminal of that many columns, and a
// function that ends it and returns all that was written to it.
func openTerminal(t *testing.T, columns uint16) (user *os.File, written func() string) {
	t.Helper()
	master, user := openPair(t, columns)
	var out bytes.Buffer
	done := make(chan struct{})
	go func() {
		defer close(done)
		// It ends with an error when the user's end is closed.
		_, _ = io.Copy(&out, master)
	}()
	return user, func() string {
		_ = user.Close()
		<-done
		return out.String()
	}
}

// openPrompt returns the user's end of a terminal on which that is typed. Without an
// end of the line it is ended as with ^D.
func openPrompt(t *testing.T, typed string) *os.File {
	t.Helper()
	master, user := openPair(t, 80)
	if !strings.HasSuffix(typed, "\n") {
		typed += "\x04\x04"
	}
	if _, err := master.WriteString(typed); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = user.Close() })
	return user
}

// openPair returns both ends of a terminal.
func openPair(t *testing.T, columns uint16) (master, user *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	t.Cleanup(func() { _ = master.Close() })
	fd := int(master.Fd())
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: columns})
	}
	if err != nil {
		t.Fatal(err)
	}
	user, err = os.OpenFile("/dev/pts/"+strconv.Itoa(number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no terminal can be made here: %v", err)
	}
	return master, user
}
