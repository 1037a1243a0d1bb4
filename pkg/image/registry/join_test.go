// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package registry

import (
	"reflect"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

func TestJoinedOptionsSayWhatBothSay(t *testing.T) {
	t.Parallel()
	clk := clocktesting.NewFakeClock(time.Unix(0, 0))
	a := Options{
		Auth: []byte("a"), CABundle: []byte("a"), Insecure: []string{"a"}, Mirrors: []Mirror{{Registry: "a"}},
		Allow: []string{"a"}, Deny: []string{"a"}, MaxBytes: 1, Attempts: 1, Stall: 1, Clock: clk,
	}
	b := Options{
		Auth: []byte("b"), CABundle: []byte("b"), Insecure: []string{"b"}, Mirrors: []Mirror{{Registry: "b"}},
		Allow: []string{"b"}, Deny: []string{"b"}, MaxBytes: 2, Attempts: 2, Stall: 2, Clock: clocktesting.NewFakeClock(time.Unix(1, 0)),
	}
	want := Options{
		Auth: []byte("a"), CABundle: []byte("a\nb"), Insecure: []string{"a", "b"}, Mirrors: []Mirror{{Registry: "a"}, {Registry: "b"}},
		Allow: []string{"a", "b"}, Deny: []string{"a", "b"}, MaxBytes: 1, Attempts: 1, Stall: 1, Clock: clk,
	}
	byPointer := cmp.Comparer(func(x, y *clocktesting.FakeClock) bool { return x == y })
	for what, tc := range map[string]struct{ got, want Options }{
		"both":          {a.Join(b), want},
		"one, and none": {a.Join(Options{}), a},
		"none, and one": {Options{}.Join(a), a},
	} {
		if diff := cmp.Diff(tc.want, tc.got, byPointer); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	// A field that Join does not know would be lost.
	joined := reflect.ValueOf(Options{}.Join(a))
	for i := range joined.NumField() {
		if joined.Field(i).IsZero() {
			t.Errorf("%s is lost: either Join or this test does not know it", joined.Type().Field(i).Name)
		}
	}
}
