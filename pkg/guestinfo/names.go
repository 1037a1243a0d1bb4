// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

import "strings"

// Keys that callers read or watch one by one.
const (
	// CommonIDKey holds the container id of a container VM.
	CommonIDKey = visiblePrefix + "/common/id"
	// NameKey holds the container's name; hidden. Before data version 2 it stood in OldNameKey,
	// for the guest to see.
	NameKey    = "common/name"
	OldNameKey = visiblePrefix + "/common/name"
	// VCHIDKey holds the moref of a VCH's appliance, or CreatingVCH.
	VCHIDKey = visiblePrefix + "/init/common/id"
	// ImageIDKey holds the digest of the image's configuration; empty without an image.
	ImageIDKey = visiblePrefix + "/imageid"
	// MountsKey holds the names of the volumes of a container VM, see Names.
	MountsKey = visiblePrefix + "/mounts"
	// NetworksKey holds the names of the networks of a container VM, see Names.
	NetworksKey = visiblePrefix + "/networks"
	// PluginVersionKey holds the version of a container VM's data layout, VCHPluginVersionKey
	// that of a VCH's appliance.
	PluginVersionKey    = visiblePrefix + "/version/PluginVersion"
	VCHPluginVersionKey = visiblePrefix + "/init/version/PluginVersion"
	// KeyUpdateInProgress is set on an appliance while vic-machine upgrades or
	// reconfigures the VCH; not part of either configuration.
	KeyUpdateInProgress = "UpdateInProgress"
	// KeyUserData, KeyUserDataEncoding, KeyMetadata and KeyMetadataEncoding are
	// the keys of cloud-init's VMware datasource; not part of either configuration.
	KeyUserData         = "guestinfo.userdata"
	KeyUserDataEncoding = "guestinfo.userdata.encoding"
	KeyMetadata         = "guestinfo.metadata"
	KeyMetadataEncoding = "guestinfo.metadata.encoding"

	// CreatingVCH is the id of a VCH whose installation has not ended.
	CreatingVCH = "CreatingVCH"

	// StartedTrue is the value of a session's started key after a launch; any
	// other text that is not empty is the reason of its failure.
	StartedTrue = "true"

	sessionsKey = visiblePrefix + "/sessions"
)

// Names returns the names in the value of a key that lists them, such as MountsKey.
func Names(value string) []string {
	if value = FromOptionValue(value); value == "" {
		return nil
	}
	return strings.Split(value, listSeparator)
}

// AnnotationKey returns the key of an annotation; hidden.
func AnnotationKey(name string) string { return "annotations" + listSeparator + name }

// StartedKey returns the key that the guest sets to StartedTrue or to an error text.
func StartedKey(session string) string { return sessionKey(session, "started") }

// StatusKey returns the key of a session's exit status.
func StatusKey(session string) string { return sessionKey(session, "status") }

// StartTimeKey returns the key of a session's start in seconds since the epoch.
func StartTimeKey(session string) string { return sessionKey(session, "detail.starttime") }

// StopTimeKey returns the key of a session's end in seconds since the epoch.
func StopTimeKey(session string) string { return sessionKey(session, "detail.stoptime") }

// StopSignalKey returns the key of a session's stop signal.
func StopSignalKey(session string) string {
	key, _ := childKey(entryKey(sessionsKey, listSeparator+session), "stopSignal", scope{})
	return key
}

// AssignedIPKey returns the key of the address, base64 of its bytes, that the
// guest reports for an endpoint.
func AssignedIPKey(network string) string {
	return writableKey(NetworksKey, network, "assigned.IP")
}

// AssignedMaskKey returns the key of the mask that belongs to AssignedIPKey.
func AssignedMaskKey(network string) string {
	return writableKey(NetworksKey, network, "assigned.Mask")
}

// AliasesKey returns the key of the joined [container]:alias entries of an endpoint, see
// Names; hidden.
func AliasesKey(network string) string {
	key, _ := childKey(entryKey(NetworksKey, listSeparator+network), "network", scope{})
	key, _ = childKey(key, "aliases", scope{hidden: true})
	return key + listSuffix
}

func sessionKey(session, part string) string { return writableKey(sessionsKey, session, part) }

func writableKey(list, entry, part string) string {
	key, _ := childKey(entryKey(list, listSeparator+entry), part, scope{writable: true})
	return key
}

// The value that stands for an empty text in ExtraConfig: setting an option to
// the empty text would delete it (VIC: pkg/vsphere/extraconfig/vmomi/optionvalue.go:45-65).
const emptyOption = "<nil>"

// OptionValues returns the keys as ExtraConfig takes them, with "<nil>" for an
// empty value. The argument stays as it is.
func OptionValues(keys map[string]string) map[string]string {
	return replaceValue(keys, "", emptyOption)
}

// FromOptionValues is the inverse of OptionValues. A value that is really
// "<nil>" cannot be told from an empty one and becomes empty, as in VIC.
func FromOptionValues(options map[string]string) map[string]string {
	return replaceValue(options, emptyOption, "")
}

// FromOptionValue is FromOptionValues for one value.
func FromOptionValue(value string) string {
	if value == emptyOption {
		return ""
	}
	return value
}

func replaceValue(in map[string]string, old, replacement string) map[string]string {
	out := make(map[string]string, len(in))
	for key, value := range in {
		if value == old {
			value = replacement
		}
		out[key] = value
	}
	return out
}

// PoweredOnKeys returns the keys that may be written while the VM is on: the
// hidden and the non-persistent ones. What else the API writes to a running VM's
// guestinfo does not last (VIC: lib/portlayer/exec/handle.go:223-232). A VM that
// is off takes all keys.
func PoweredOnKeys(keys map[string]string) map[string]string {
	out := make(map[string]string)
	for key, value := range keys {
		if !strings.HasPrefix(key, visiblePrefix) || inherited(key).transient {
			out[key] = value
		}
	}
	return out
}
