// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// progress shows on the stream of errors how far a command is. After end nothing
// is written any more. It is safe for concurrent use.
type progress interface {
	// report shows how far the making of an image disk is.
	report(image.Progress)
	// wait shows that for this time nothing but time passes, and why; what comes
	// after it is called then.
	wait(limit time.Duration, why, then string)
	// end completes what is shown if all went well, and otherwise leaves it as it is.
	end(ok bool)
}

// newProgress returns bars if w is a terminal that knows how to move the cursor,
// and lines otherwise.
func newProgress(ctx context.Context, opts Options, lines bool) progress {
	if file, ok := opts.Stderr.(*os.File); ok && !lines && opts.Env("TERM") != "dumb" && term.IsTerminal(int(file.Fd())) {
		return newBars(ctx, file, opts.clock())
	}
	return &lineProgress{out: opts.Stderr}
}

// step is the part of an image.Progress that a bar, or a group of lines, is for.
type step struct {
	stage image.Stage
	owner string
}

// lineProgress writes a line for each stage and for every ten percent of it.
type lineProgress struct {
	out io.Writer

	mu    sync.Mutex
	ended bool
	step  step
	// shown is the last number of percent that stands in a line; -1: none does.
	shown int64
}

const percentPerLine = 10

func (l *lineProgress) report(p image.Progress) {
	l.mu.Lock()
	defer l.mu.Unlock()
	at := step{p.Stage, p.Owner}
	if l.ended || p.Stage == "" {
		return
	}
	fresh := at != l.step
	if fresh {
		l.step, l.shown = at, -1
	}
	percent := int64(-1)
	if p.Total > 0 {
		percent = percentOf(p.Done, p.Total) / percentPerLine * percentPerLine
	}
	// A transfer that begins anew goes back.
	if fresh || percent != l.shown {
		l.shown = percent
		l.line(progressText(p, percent))
	}
}

func (l *lineProgress) wait(limit time.Duration, why, _ string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.line(fmt.Sprintf("waiting %s, %s", limit, why))
	}
}

func (l *lineProgress) end(bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ended = true
}

// line writes a line. The owner in it comes from the datastore. Nobody is left
// to tell when the stream of errors fails.
func (l *lineProgress) line(text string) { _, _ = fmt.Fprintln(l.out, oneLine(text)) }

// progressText is a line such as "downloading, 40 % of 134.2 MiB".
func progressText(p image.Progress, percent int64) string {
	text := string(p.Stage)
	if percent >= 0 {
		text += fmt.Sprintf(", %d %% of %s", percent, bytesText(p.Total))
	}
	return text + ownerText(p.Owner)
}

func ownerText(owner string) string {
	if owner == "" {
		return ""
	}
	return " (by " + oneLine(owner) + ")"
}

func percentOf(done, total int64) int64 {
	if total <= 0 || done >= total {
		return 100
	}
	return int64(float64(max(0, done)) / float64(total) * 100)
}

// bytesText writes a number of bytes for people, such as 212.3 MiB.
func bytesText(n int64) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	value, unit := float64(n), 0
	// What would be rounded up to 1024 is one of the next unit.
	for value >= 1023.95 && unit < len(units)-1 {
		value, unit = value/1024, unit+1
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + units[unit]
}
