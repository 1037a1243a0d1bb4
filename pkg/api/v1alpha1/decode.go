// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	kjson "sigs.k8s.io/json"
	kyaml "sigs.k8s.io/yaml"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
)

// MaxSpecBytes is the size that an undecoded ProviderSpec may have.
const MaxSpecBytes = 256 << 10

// Load is the whole way in: Decode, SetDefaults and Validate. An error is of
// the kind InvalidArgument and lists all faults of the step that failed,
// sorted, so that the same input always gives the same text.
func Load(raw []byte) (*ProviderSpec, error) {
	spec, err := Decode(raw)
	if err != nil {
		return nil, err
	}
	SetDefaults(spec)
	if errs := Validate(spec); len(errs) > 0 {
		return nil, faults("providerSpec", messages(errs))
	}
	return spec, nil
}

// Decode reads a ProviderSpec from JSON or from one YAML document. It is
// strict: fields that are unknown, given twice or of the wrong type, and another
// apiVersion or kind, are errors that name the field with its path. An error is
// of the kind InvalidArgument. Decode neither sets defaults nor judges values. Volumes
// that are strings come out like all others.
func Decode(raw []byte) (*ProviderSpec, error) {
	doc, err := toJSON(raw)
	if err != nil {
		return nil, err
	}
	// Quantities first: parsing or comparing one with a huge exponent takes hours.
	found := scan(doc)
	doc, odd := expandVolumes(doc)
	if found = append(found, odd...); len(found) > 0 {
		return nil, faults("decode providerSpec", found)
	}
	spec := &ProviderSpec{}
	strict, err := kjson.UnmarshalStrict(doc, spec)
	for _, e := range strict {
		found = append(found, e.Error())
	}
	if err != nil {
		found = append(found, typeFault(err))
	}
	if len(found) > 0 {
		return nil, faults("decode providerSpec", found)
	}
	return spec, nil
}

func faults(what string, found []string) error {
	slices.Sort(found)
	return errdefs.New(errdefs.InvalidArgument, "%s: %s", what, strings.Join(slices.Compact(found), "; "))
}

// toJSON returns raw as a JSON object, or says what it is instead.
func toJSON(raw []byte) ([]byte, error) {
	if len(raw) > MaxSpecBytes {
		return nil, faults("decode providerSpec", []string{fmt.Sprintf("it has %d bytes, at most %d are allowed", len(raw), MaxSpecBytes)})
	}
	doc := bytes.TrimSpace(raw)
	if len(doc) == 0 {
		return nil, faults("decode providerSpec", []string{"it is empty"})
	}
	if !json.Valid(doc) {
		converted, err := yamlToJSON(doc)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.InvalidArgument, err, "decode providerSpec")
		}
		doc = converted
	}
	if doc[0] != '{' {
		return nil, faults("decode providerSpec", []string{"must be an object, got " + jsonType(doc)})
	}
	return doc, nil
}

func yamlToJSON(raw []byte) ([]byte, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(raw))
	var node yaml.Node
	if err := decoder.Decode(&node); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty")
		}
		return nil, fmt.Errorf("neither JSON nor YAML: %w", err)
	}
	if err := decoder.Decode(&yaml.Node{}); !errors.Is(err, io.EOF) {
		return nil, errors.New("more than one YAML document")
	}
	if found := duplicateKeys(&node, ""); len(found) > 0 {
		slices.Sort(found)
		return nil, errors.New(strings.Join(found, "; "))
	}
	doc, err := kyaml.YAMLToJSONStrict(raw)
	if err != nil {
		return nil, fmt.Errorf("convert YAML to JSON: %w", err)
	}
	if len(doc) > MaxSpecBytes {
		return nil, fmt.Errorf("it has %d bytes as JSON, at most %d are allowed", len(doc), MaxSpecBytes)
	}
	return doc, nil
}

// duplicateKeys names keys given twice in the style of the JSON decoder.
func duplicateKeys(node *yaml.Node, path string) []string {
	var found []string
	switch node.Kind {
	case yaml.MappingNode:
		seen := map[string]bool{}
		for i := 0; i+1 < len(node.Content); i += 2 {
			key := join(path, node.Content[i].Value)
			if seen[key] {
				found = append(found, fmt.Sprintf("duplicate field %q", key))
			}
			seen[key] = true
			found = append(found, duplicateKeys(node.Content[i+1], key)...)
		}
	case yaml.SequenceNode:
		for i, item := range node.Content {
			found = append(found, duplicateKeys(item, path+"["+strconv.Itoa(i)+"]")...)
		}
	case yaml.DocumentNode:
		for _, item := range node.Content {
			found = append(found, duplicateKeys(item, path)...)
		}
	default: // scalars have no keys; an alias repeats what was looked at where it stands
	}
	return found
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

func jsonType(doc []byte) string {
	switch doc[0] {
	case '[':
		return "an array"
	case '"':
		return "a string"
	case 'n':
		return "null"
	case 't', 'f':
		return "a boolean"
	default:
		return "a number"
	}
}

// typeFault names the field of an error of the JSON decoder.
func typeFault(err error) string {
	t, ok := errors.AsType[*json.UnmarshalTypeError](err)
	if !ok || t.Field == "" {
		return err.Error()
	}
	kind := t.Type.Kind().String()
	switch t.Type.String() {
	case "int32", "int64":
		kind = "a whole number (" + kind + ")"
	case "bool":
		kind = "true or false"
	default:
		switch kind {
		case "struct", "map":
			kind = "an object"
		case "slice":
			kind = "a list"
		default:
			kind = "a " + kind
		}
	}
	return fmt.Sprintf("%s: must be %s, got %s", t.Field, kind, t.Value)
}

// quantityPattern is what a quantity may look like here: at most 20 digits and an exponent
// of at most two. More is never meant, and resource.Quantity computes powers of ten as they are written.
var quantityPattern = regexp.MustCompile(`^[+-]?[0-9.]{1,20}([eE][+-]?[0-9]{1,2}|[numkMGTPE]|[KMGTPE]i)?$`)

var volumeCapacityPattern = regexp.MustCompile(`^volumes\[[0-9]+\]\.capacity$`)

// scan walks all values of doc, a valid JSON object, duplicates included, and
// returns what is wrong with those that must be judged before the typed decoder sees them.
func scan(doc []byte) []string {
	decoder := json.NewDecoder(bytes.NewReader(doc))
	decoder.UseNumber()
	var found []string
	scanValue(decoder, "", func(path string, value any) {
		if fault := scanFault(path, value); fault != "" {
			found = append(found, path+": "+fault)
		}
	})
	return found
}

func scanFault(path string, value any) string {
	if value == nil {
		return ""
	}
	text, isText := value.(string)
	if volumeCapacityPattern.MatchString(path) {
		path = "volumes[].capacity"
	}
	switch path {
	case "apiVersion":
		if text != APIVersion {
			return fmt.Sprintf("must be %q or absent, got %q", APIVersion, clip(fmt.Sprint(value)))
		}
	case "kind":
		if text != Kind {
			return fmt.Sprintf("must be %q or absent, got %q", Kind, clip(fmt.Sprint(value)))
		}
	case "memory", "resources.memory.reservation", "resources.memory.limit", "rootDisk.size", "volumes[].capacity":
		if number, ok := value.(json.Number); ok {
			text, isText = number.String(), true
		}
		if !isText || !quantityPattern.MatchString(strings.TrimSpace(text)) {
			return fmt.Sprintf("must be a quantity, for example 2Gi, got %q", clip(fmt.Sprint(value)))
		}
	}
	return ""
}

// scanValue reads one value and visits it and all within; objects and arrays are visited as their delimiter.
// It stops silently at an error, which valid JSON does not have.
func scanValue(decoder *json.Decoder, path string, visit func(string, any)) {
	token, err := decoder.Token()
	if err != nil {
		return
	}
	visit(path, token)
	delim, ok := token.(json.Delim)
	if !ok {
		return
	}
	for i := 0; decoder.More(); i++ {
		child := path + "[" + strconv.Itoa(i) + "]"
		if delim == '{' {
			key, err := decoder.Token()
			if err != nil {
				return
			}
			child = join(path, fmt.Sprint(key))
		}
		scanValue(decoder, child, visit)
	}
	_, _ = decoder.Token() // the closing delimiter
}
