// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"k8s.io/utils/clock"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/image"
)

// bars shows a bar for each stage on a terminal, one below the other: its name,
// how much of it is done, and the rate since it began. The names come first, so
// a narrow terminal still shows them; what does not fit is cut off.
type bars struct {
	container *mpb.Progress
	clock     clock.PassiveClock

	mu    sync.Mutex
	ended bool
	step  step
	bar   *mpb.Bar
	total int64
	// begin is when the bar began, took how long it took once it is over.
	begin time.Time
	took  *atomic.Int64
}

// newBars returns bars on a terminal. The options are for tests.
func newBars(ctx context.Context, terminal io.Writer, clk clock.PassiveClock, options ...mpb.ContainerOption) *bars {
	// After ^C the command still cleans up, and may show that.
	ctx = context.WithoutCancel(ctx)
	return &bars{clock: clk, container: mpb.NewWithContext(ctx, append([]mpb.ContainerOption{mpb.WithOutput(terminal)}, options...)...)}
}

func (b *bars) report(p image.Progress) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || p.Stage == "" {
		return
	}
	if at := (step{p.Stage, p.Owner}); b.bar == nil || at != b.step {
		b.finish()
		b.step, b.total = at, 0
		b.addStage(string(p.Stage) + ownerText(p.Owner))
	}
	if b.bar == nil {
		return
	}
	b.total = max(0, p.Total)
	b.bar.SetTotal(b.total, false)
	b.bar.SetCurrent(max(0, p.Done))
}

func (b *bars) wait(limit time.Duration, why, then string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.finish()
	begin := b.clock.Now()
	b.step, b.total, b.begin, b.took = step{}, 0, begin, new(atomic.Int64)
	text := func(s decor.Statistics) string {
		left := limit - b.clock.Since(begin)
		switch {
		case s.Completed || s.Aborted:
			return ""
		case left > 0:
			return left.Round(time.Second).String() + ", " + why
		default:
			return then
		}
	}
	b.add(nil, mpb.PrependDecorators(nameDecorator("waiting"), decor.Any(text)), mpb.BarFillerTrim())
}

func (b *bars) end(ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended {
		return
	}
	b.ended = true
	if ok {
		b.finish()
	} else if b.bar != nil {
		b.bar.Abort(false)
	}
	b.container.Wait()
}

// finish completes the bar of the stage that is over.
func (b *bars) finish() {
	if b.bar != nil {
		b.took.Store(int64(b.clock.Since(b.begin)))
		b.bar.SetTotal(b.total, true)
		b.bar = nil
	}
}

func (b *bars) add(filler mpb.BarFiller, options ...mpb.BarOption) {
	bar, err := b.container.Add(0, filler, options...)
	if err != nil {
		return // the terminal failed: there is nothing to show
	}
	b.bar = bar
}

const nameWidth = len("downloading") + 1

func nameDecorator(name string) decor.Decorator {
	return decor.Name(name+" ", decor.WC{W: nameWidth, C: decor.DindentRight})
}

// addStage adds a bar: with a total, name, percent, bar, bytes and rate; without,
// a wheel until it is done.
func (b *bars) addStage(name string) {
	begin, took := b.clock.Now(), new(atomic.Int64)
	b.begin, b.took = begin, took
	percent := func(s decor.Statistics) string {
		if s.Total <= 0 {
			return ""
		}
		return fmt.Sprintf("%3d %% ", percentOf(s.Current, s.Total))
	}
	amount := func(s decor.Statistics) string {
		if s.Total <= 0 {
			return ""
		}
		text := " " + bytesText(s.Current) + " of " + bytesText(s.Total)
		if elapsed := cmp.Or(time.Duration(took.Load()), b.clock.Since(begin)).Seconds(); elapsed > 0 {
			text += ", " + bytesText(int64(float64(s.Current)/elapsed)) + "/s"
		}
		return text
	}
	bar := mpb.BarStyle().Build()
	wheel := mpb.SpinnerStyle("|", "/", "-", `\`).PositionLeft().Build()
	filler := mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		switch {
		case s.Total > 0:
			return bar.Fill(w, s)
		case s.Completed || s.Aborted:
			return nil
		default:
			return wheel.Fill(w, s)
		}
	})
	b.add(filler, mpb.PrependDecorators(nameDecorator(name), decor.Any(percent)), mpb.AppendDecorators(decor.Any(amount)), mpb.BarFillerTrim())
}
