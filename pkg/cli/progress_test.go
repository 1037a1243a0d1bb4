// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/vbauerster/mpb/v8"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

const mib = int64(1 << 20)

func TestLinesCountInTensAndNameEachStageOnce(t *testing.T) {
	var out bytes.Buffer
	l := &lineProgress{out: &out}
	l.report(image.Progress{Stage: image.Resolving})
	l.report(image.Progress{Stage: image.Resolving})
	for done := int64(0); done <= 200; done++ {
		l.report(image.Progress{Stage: image.Downloading, Done: done * mib, Total: 200 * mib})
	}
	// The total comes late, and the transfer begins anew.
	l.report(image.Progress{Stage: image.Uploading})
	l.report(image.Progress{Stage: image.Uploading, Done: 39, Total: 100})
	l.report(image.Progress{Stage: image.Uploading, Done: 41, Total: 100})
	l.report(image.Progress{Stage: image.Uploading, Done: 2, Total: 100})
	l.report(image.Progress{Stage: image.Waiting, Owner: "evil\x1b[2J\nname"})
	l.report(image.Progress{})
	l.wait(2*time.Minute, "for a reason", "then")
	l.end(true)
	l.report(image.Progress{Stage: image.Publishing})
	want := `resolving
downloading, 0 % of 200 MiB
downloading, 10 % of 200 MiB
downloading, 20 % of 200 MiB
downloading, 30 % of 200 MiB
downloading, 40 % of 200 MiB
downloading, 50 % of 200 MiB
downloading, 60 % of 200 MiB
downloading, 70 % of 200 MiB
downloading, 80 % of 200 MiB
downloading, 90 % of 200 MiB
downloading, 100 % of 200 MiB
uploading
uploading, 30 % of 100 B
uploading, 40 % of 100 B
uploading, 0 % of 100 B
waiting (by evil [2J name)
waiting 2m0s, for a reason
`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBytesAreWrittenForPeople(t *testing.T) {
	for n, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", mib - 1: "1 MiB", 8 << 30: "8 GiB", 222_600_000: "212.3 MiB", 2 << 40: "2 TiB", 1 << 60: "1048576 TiB",
	} {
		if got := bytesText(n); got != want {
			t.Errorf("%d: got %s, want %s", n, got, want)
		}
	}
}

func TestAPercentageIsNeverOutOfItsBounds(t *testing.T) {
	for _, test := range []struct{ done, total, want int64 }{{-5, 10, 0}, {0, 10, 0}, {999, 1000, 99}, {10, 10, 100}, {11, 10, 100}, {1 << 60, 1 << 62, 25}} {
		if got := percentOf(test.done, test.total); got != test.want {
			t.Errorf("%d of %d: got %d, want %d", test.done, test.total, got, test.want)
		}
	}
}

// terminal is a screen that is drawn when a test says so.
type terminal struct {
	refresh chan any
	// frames has what is drawn, in one write each.
	frames chan string
	clock  *clocktesting.FakeClock
	width  int
}

func newTerminal(width int) *terminal {
	return &terminal{refresh: make(chan any), frames: make(chan string, 1), clock: clocktesting.NewFakeClock(time.Unix(1_000_000_000, 0)), width: width}
}

func (s *terminal) Write(p []byte) (int, error) {
	s.frames <- string(p)
	return len(p), nil
}

func (s *terminal) bars(t *testing.T) *bars {
	t.Helper()
	return newBars(t.Context(), s, s.clock, mpb.WithManualRefresh(s.refresh), mpb.WithWidth(s.width))
}

// draw lets the screen be drawn and returns it.
func (s *terminal) draw(t *testing.T) string {
	t.Helper()
	s.refresh <- s.clock.Now()
	return regexp.MustCompile("^\x1b\\[[0-9]+A\x1b\\[J").ReplaceAllString(<-s.frames, "")
}

func TestBarsShowStageBytesAndRate(t *testing.T) {
	for width, name := range map[int]string{100: "bars.txt", 40: "bars-narrow.txt", 8: "bars-tiny.txt"} {
		t.Run(name, func(t *testing.T) {
			screen := newTerminal(width)
			b := screen.bars(t)
			var all strings.Builder
			show := func(what string) {
				frame := screen.draw(t)
				for line := range strings.Lines(frame) {
					if n := len([]rune(strings.TrimSuffix(line, "\n"))); n > width {
						t.Errorf("%s: a line has %d columns: %q", what, n, line)
					}
				}
				all.WriteString("--- " + what + "\n" + frame)
			}
			b.report(image.Progress{Stage: image.Resolving})
			show("no total")
			b.report(image.Progress{Stage: image.Downloading, Total: 200 * mib})
			screen.clock.Step(4 * time.Second)
			b.report(image.Progress{Stage: image.Downloading, Done: 50 * mib, Total: 200 * mib})
			show("a quarter")
			b.report(image.Progress{Stage: image.Downloading, Done: 200 * mib, Total: 200 * mib})
			screen.clock.Step(4 * time.Second)
			b.report(image.Progress{Stage: image.Unpacking, Done: 1, Total: 300 * mib, Owner: "other\x1b[1m"})
			show("the next stage, elsewhere")
			screen.clock.Step(time.Hour)
			show("an hour later")
			b.report(image.Progress{Stage: image.Publishing})
			b.wait(2*time.Minute, "so that it can be seen", "then deleting")
			screen.clock.Step(30 * time.Second)
			show("a wait")
			screen.clock.Step(90 * time.Second)
			show("after the wait")
			b.end(true)
			b.report(image.Progress{Stage: image.Publishing}) // does nothing
			goldenFile(t, name, all.String())
		})
	}
}

func TestBarsOfAFailureStayAsTheyWere(t *testing.T) {
	screen := newTerminal(80)
	b := screen.bars(t)
	b.report(image.Progress{Stage: image.Downloading, Done: 50, Total: 200})
	if got := screen.draw(t); !strings.Contains(got, " 25 %") {
		t.Fatalf("got %q", got)
	}
	b.end(false)
	b.end(false) // does nothing
	select {
	case frame := <-screen.frames:
		t.Errorf("got %q", frame)
	default:
	}
}

// golden files of tests inside of the package; the flag is that of the others.
func goldenFile(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if flag.Lookup("update").Value.String() == "true" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}
