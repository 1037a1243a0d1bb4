// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

func TestWhatMakesVICPanicIsAnErrorThatNamesTheKey(t *testing.T) {
	const args = "guestinfo.vice./sessions|s/cmd/Args"
	const dns = "guestinfo.vice./networks|n/network/dns"
	tests := []struct {
		name string
		keys map[string]string
		key  string
	}{
		{"more elements announced than joined", map[string]string{args: "2", args + "~": "planted|b"}, args},
		{"a negative length", map[string]string{args: "-2", args + "~": "a"}, args},
		{"a length beyond memory", map[string]string{dns: "9223372036854775807"}, dns},
		{"a length beyond sense", map[string]string{dns: "65536"}, dns},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.keys["guestinfo.vice./sessions"] = "s"
			test.keys["guestinfo.vice./networks"] = "n"
			config, err := DecodeExecutor(test.keys)
			if !errdefs.Is(err, errdefs.InvalidArgument) || !strings.HasPrefix(err.Error(), `key "`+test.key+`": `) {
				t.Errorf("got %v, %v; want InvalidArgument naming %s", config, err, test.key)
			}
			if err != nil && strings.Contains(err.Error(), "planted") {
				t.Errorf("the error shows a value: %v", err)
			}
		})
	}
}

func TestTheLargestListIsRead(t *testing.T) {
	config, err := DecodeExecutor(map[string]string{
		"guestinfo.vice./networks":                "n",
		"guestinfo.vice./networks|n/network/dns":  "65535",
		"guestinfo.vice./networks|n/network/type": "external",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := len(config.Networks["n"].Network.Nameservers); got != maxElements {
		t.Errorf("got %d name servers", got)
	}
}

func TestOddValuesBecomeZero(t *testing.T) {
	config, err := DecodeExecutor(map[string]string{
		"guestinfo.vice./diagnostics/debug":     "much",
		"guestinfo.vice..createtime":            "12e3",
		"guestinfo.vice./asymrouting":           "perhaps",
		"guestinfo.vice./version/PluginVersion": "",
		"somebody.else":                         "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if config.Diagnostics.DebugLevel != 0 || config.CreateTime != 0 || config.AsymmetricRouting {
		t.Errorf("got %+v", config)
	}
	if config.Version == nil || *config.Version != (Version{}) {
		t.Errorf("an empty version key makes an empty version, got %v", config.Version)
	}
}

func TestAListedCertificateWithoutKeysIsNil(t *testing.T) {
	config, err := DecodeVCH(map[string]string{
		"guestinfo.vice./cert/NetworkCertificates": "a",
		"guestinfo.vice./cert/UserCertificates":    "0",
		"guestinfo.vice./cert/UserCertificates~":   "x",
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]*RawCertificate{"a": nil}, config.NetworkCertificates); diff != "" {
		t.Errorf("network certificates (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]*RawCertificate{nil}, config.UserCertificates); diff != "" {
		t.Errorf("user certificates (-want +got):\n%s", diff)
	}
}

func TestEveryKeyThatVICReadsIsRead(t *testing.T) {
	for _, v := range readVectors(t, "decode-cases.json") {
		t.Run(v.Name, func(t *testing.T) {
			unread := maps.Clone(v.Raw)
			d := decoder{get: func(key string) (string, bool) {
				value, ok := v.Raw[key]
				delete(unread, key)
				return value, ok
			}}
			if _, err := d.value(reflect.ValueOf(new(ExecutorConfig)).Elem(), ""); err != nil {
				t.Fatal(err)
			}
			got := slices.Sorted(maps.Keys(unread))
			if !slices.Equal(got, v.Unread) {
				t.Errorf("not read: %q, by VIC: %q", got, v.Unread)
			}
		})
	}
}

func TestKeysOfTheEncodingHaveNames(t *testing.T) {
	const id, network = "0123abcd", "vm.network/1"
	keys, err := EncodeExecutor(&ExecutorConfig{
		ExecutorConfigCommon: ExecutorConfigCommon{ID: "id", Name: "name"},
		Sessions: map[string]*SessionConfig{id: {
			Started: "started", ExitStatus: 11, Detail: Detail{StartTime: 12, StopTime: 13},
		}},
		Annotations: map[string]string{"a.b": "annotation"},
		Networks:    map[string]*NetworkEndpoint{network: {}},
		Version:     &Version{PluginVersion: 14},
	})
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		CommonIDKey:          "id",
		NameKey:              "name",
		StartedKey(id):       "started",
		StatusKey(id):        "11",
		StartTimeKey(id):     "12",
		StopTimeKey(id):      "13",
		AnnotationKey("a.b"): "annotation",
		PluginVersionKey:     "14",
	} {
		if got := keys[key]; got != want {
			t.Errorf("%s holds %q, want %q", key, got, want)
		}
	}
	config, err := DecodeExecutor(map[string]string{
		"guestinfo.vice./networks": network,
		AssignedIPKey(network):     "CgAABg==",
		AssignedMaskKey(network):   "////AA==",
	})
	if err != nil {
		t.Fatal(err)
	}
	if got := config.Networks[network].Assigned.String(); got != "10.0.0.6/24" {
		t.Errorf("the assigned address is %s", got)
	}
	vch, err := DecodeVCH(map[string]string{VCHIDKey: "VirtualMachine:vm-1"})
	if err != nil || vch.ID != "VirtualMachine:vm-1" {
		t.Errorf("the VCH's id is %q, %v", vch.ID, err)
	}
}

func TestEmptyValuesAreSentAsNil(t *testing.T) {
	plain := map[string]string{"a": "", "b": "x"}
	options := OptionValues(plain)
	if diff := cmp.Diff(map[string]string{"a": "<nil>", "b": "x"}, options); diff != "" {
		t.Errorf("option values (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(plain, FromOptionValues(options)); diff != "" {
		t.Errorf("plain values (-want +got):\n%s", diff)
	}
}
