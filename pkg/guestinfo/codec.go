// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package guestinfo

// EncodeExecutor returns all keys of a container VM's configuration, with plain
// values: pass them through OptionValues before they go to vSphere.
//
// What is empty leaves no key, and vSphere keeps keys that nobody mentions: a
// list, map or pointer that was written once cannot be emptied by writing again.
//
// The error is of kind InvalidArgument and names the field, never its value:
// a '|' in a list element or map key, two entries of a guest-visible map that
// differ and share one key ('.' is '/' there, and text after an '@' is left out), a
// value that VIC's format cannot hold. User information of URLs is left out, as in VIC.
func EncodeExecutor(config *ExecutorConfig) (map[string]string, error) {
	return encode(config)
}

// DecodeExecutor reads a container VM's configuration; keys of other owners are
// ignored, and so are odd values, as VIC does. The values are plain: options of
// vSphere go through FromOptionValues first. Maps and lists of the result are
// empty, not nil; Version is nil when no version key exists.
//
// The error is of kind InvalidArgument and names the key: a list whose stored
// length is negative, larger than the list, or beyond any sense; VIC panics there.
func DecodeExecutor(keys map[string]string) (*ExecutorConfig, error) {
	config := new(ExecutorConfig)
	if err := decode(keys, config); err != nil {
		return nil, err
	}
	return config, nil
}

// EncodeVCH is EncodeExecutor for the configuration of a VCH. Secrets are
// written as they are given: encrypting them is the caller's.
func EncodeVCH(config *VCHConfig) (map[string]string, error) {
	return encode(config)
}

// DecodeVCH is DecodeExecutor for the configuration of a VCH. Secrets stay as
// they are stored, encrypted.
func DecodeVCH(keys map[string]string) (*VCHConfig, error) {
	config := new(VCHConfig)
	if err := decode(keys, config); err != nil {
		return nil, err
	}
	return config, nil
}

// EncodePart returns the keys of a part of a configuration: a pointer to a struct that
// names with tags, as the types of this package do, the few fields that a caller
// has to do with. Errors are those of EncodeExecutor.
func EncodePart(part any) (map[string]string, error) {
	return encode(part)
}

// DecodePart fills a part of a configuration, a pointer to a struct as for
// EncodePart, and looks at no other keys. Errors are those of DecodeExecutor.
func DecodePart(keys map[string]string, part any) error {
	return decode(keys, part)
}
