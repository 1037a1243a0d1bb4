// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"

	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/volume"
)

// expandVolumes writes the elements of volumes that are strings as objects, and says
// what is wrong with those that are neither. It is done to the text: a type that
// decoded itself would hide unknown fields from the strict decoder.
func expandVolumes(doc []byte) ([]byte, []string) {
	var found []string
	var out []byte
	copied := 0
	children(doc, func(name string, begin, end int) {
		if name != "volumes" || doc[begin] != '[' {
			return
		}
		count := 0
		children(doc[begin:end], func(index string, b, e int) {
			if count++; count > MaxVolumes {
				return // judged below
			}
			object, fault := expandVolume(doc[begin+b : begin+e])
			switch {
			case fault != "":
				found = append(found, name+index+": "+fault)
			case object != nil:
				out = append(append(out, doc[copied:begin+b]...), object...)
				copied = begin + e
			}
		})
		if count > MaxVolumes {
			found = append(found, fmt.Sprintf("volumes: Too many: %d: must have at most %d items", count, MaxVolumes))
		}
	})
	return append(out, doc[copied:]...), found
}

// expandVolume returns the object that an element stands for, nil if it is one.
func expandVolume(element []byte) (object []byte, fault string) {
	switch element[0] {
	case '{', 'n':
		return nil, ""
	case '"':
	default:
		return nil, "must be an object, or a string such as data:/var/lib/data:rw, got " + jsonType(element)
	}
	var text string
	if err := json.Unmarshal(element, &text); err != nil {
		return nil, err.Error()
	}
	bind, err := volume.ParseBind(text)
	if err != nil {
		return nil, err.Error()
	}
	v := Volume{Name: bind.Name, MountPath: bind.Path}
	if bind.ReadOnly {
		v.Mode = VolumeReadOnly
	}
	if bind.NoCopy {
		v.NoCopy = ptr.To(true)
	}
	if object, err = json.Marshal(v); err != nil {
		return nil, err.Error()
	}
	return object, ""
}

// children visits the members of a JSON object, or the elements of an array as [0]
// and on, with where their values are in doc, which is valid.
func children(doc []byte, visit func(name string, begin, end int)) {
	decoder := json.NewDecoder(bytes.NewReader(doc))
	open, err := decoder.Token()
	for i := 0; err == nil && decoder.More(); i++ {
		name := "[" + strconv.Itoa(i) + "]"
		if open == json.Delim('{') {
			var key json.Token
			if key, err = decoder.Token(); err != nil {
				return
			}
			name = fmt.Sprint(key)
		}
		var value json.RawMessage
		if err = decoder.Decode(&value); err == nil {
			end := int(decoder.InputOffset())
			visit(name, end-len(value), end)
		}
	}
}
