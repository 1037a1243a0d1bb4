// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package volume_test

import (
	"maps"
	"strings"
	"testing"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

func TestOptionsAreReadAsVICReadsThem(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		options map[string]string
		want    volume.Options
	}{
		{nil, volume.Options{}},
		{map[string]string{}, volume.Options{}},
		{map[string]string{"volumestore": "fast"}, volume.Options{Store: "fast"}},
		{map[string]string{"VolumeStore": "Fast", "CAPACITY": "2048"}, volume.Options{Store: "Fast", Capacity: 2 << 30}},
	} {
		before := maps.Clone(test.options)
		got, err := volume.ParseOptions(test.options)
		if err != nil || got != test.want {
			t.Errorf("%v: %+v, %v, want %+v", test.options, got, err, test.want)
		}
		if !maps.Equal(before, test.options) {
			t.Errorf("the options were changed to %v", test.options)
		}
	}
}

func TestACapacityIsMBOrADecimalSizeAndAnMBIsAMiB(t *testing.T) {
	t.Parallel()
	for s, mib := range map[string]int64{
		"8": 8, "1024": 1024, "+64": 64, "0064": 64, "2097152": 2 << 20,
		"8MB": 8, "8mb": 8, "8m": 8, "8 MB": 8, "8000k": 8, "8000kB": 8, "8000000b": 8, "8000000B": 8,
		"2GB": 2000, "2g": 2000, "2 G": 2000, "1.5 GB": 1500, "1.5g": 1500, "1.1GB": 1100, "0.1 TB": 100_000,
		"1T": 1_000_000, "2TB": 2_000_000, "0.002P": 2_000_000,
		"8.1MB": 9, "8000001b": 9, "7999999b": 8, "7.5MB": 8, // what is over counts as a whole one
		"8000000.9": 8, "2.097152TB": 2 << 20,
	} {
		got, err := volume.ParseOptions(map[string]string{"capacity": s})
		if err != nil || got.Capacity != mib<<20 {
			t.Errorf("%q: %d MiB, %v, want %d", s, got.Capacity>>20, err, mib)
		}
	}
}

func TestOptionsThatAreWrongAreRefusedWithTheReason(t *testing.T) {
	t.Parallel()
	small, large, none := "too small for a file system with a journal: 8 MB are the least", "too large: 2097152 MB are the most", "is no size"
	for s, part := range map[string]string{
		"0": small, "-1": small, "1": small, "7": small, "1k": small, "1b": small, "7MB": small, "0.0G": small, "1.5": small, "-9223372036854775808": small,
		"2097153": large, "3TB": large, "1P": large, "9223372036854775807": large, "9223372036854775808": large, "99999999999999999999999P": large,
		strings.Repeat("9", 400): large,
		"":                       none, " ": none, "2GiB": none, "2gib": none, "2E": none, "GB": none, "-1GB": none, "1.GB": none, ".5GB": none, "1.5.5GB": none,
		"1  GB": none, " 1GB": none, "1GB ": none, "1e3": none, "0x10": none, "1,5GB": none, "1_000": none, "NaN": none, "Inf": none, "٣": none, "2GBB": none,
	} {
		_, err := volume.ParseOptions(map[string]string{"Capacity": s})
		wantInvalid(t, s, err, part, "option Capacity")
	}
	for _, test := range []struct {
		options map[string]string
		part    string
	}{
		{map[string]string{"volumestore": ""}, "option volumestore is empty"},
		{map[string]string{"size": "1"}, `option "size" is not supported: there are volumestore and capacity`},
		{map[string]string{"": "1"}, `option "" is not supported`},
		{map[string]string{"flags": "rw"}, "not supported"},
		{map[string]string{"container": "x"}, "not supported"},
		{map[string]string{"image": "x"}, "not supported"},
		{map[string]string{"capacity": "8", "Capacity": "8"}, "option capacity is given twice, as Capacity and as capacity"},
	} {
		for range 5 { // whichever comes first
			_, err := volume.ParseOptions(test.options)
			wantInvalid(t, "options", err, test.part)
		}
	}
}

// FuzzParseOptions holds that what is read is valid.
func FuzzParseOptions(f *testing.F) {
	for _, s := range []string{"8", "2GB", "1.5 GB", "-1", "", "1e400", "99999999999999999999P", "0.0000001T"} {
		f.Add("capacity", s)
	}
	f.Add("VolumeStore", "default")
	f.Fuzz(func(t *testing.T, key, value string) {
		o, err := volume.ParseOptions(map[string]string{key: value})
		if err != nil {
			wantInvalid(t, key+"="+value, err)
			return
		}
		switch strings.ToLower(key) {
		case "volumestore":
			if o.Store != value || value == "" || o.Capacity != 0 {
				t.Errorf("%s=%q is %+v", key, value, o)
			}
		case "capacity":
			if o.Store != "" || volume.ValidateCapacity(o.Capacity) != nil {
				t.Errorf("%s=%q is %+v", key, value, o)
			}
		default:
			t.Errorf("%s=%q is %+v", key, value, o)
		}
	})
}
