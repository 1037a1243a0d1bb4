// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package containervm

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/guestinfo"
)

// packing is how values of cloud-init's VMware datasource are packed, in its words.
const packing = "gzip+base64"

// userDataVariable carries userData to the process that unpacks and runs it.
const userDataVariable = "MCM_VCH_USERDATA"

func expandUserData(r Request) []byte {
	return []byte(v1alpha1.Expand(string(r.Secret[v1alpha1.SecretUserData]), placeholders(r)))
}

// cloudInitKeys publishes userData for cloud-init's VMware datasource.
func cloudInitKeys(r Request, userData []byte) (map[string]string, error) {
	if u := r.Spec.UserData; u != nil && u.Publish != nil && !*u.Publish {
		return nil, nil
	}
	// cloud-init reads metadata as YAML, of which JSON is a part.
	metadata, err := json.Marshal(map[string]string{
		"instance-id":    r.Identity.ProviderID(),
		"local-hostname": r.Machine,
	})
	if err != nil {
		return nil, errdefs.Wrap(errdefs.Internal, err, "encode the metadata of machine %s", r.Machine)
	}
	out := map[string]string{}
	for key, value := range map[string][]byte{guestinfo.KeyUserData: userData, guestinfo.KeyMetadata: metadata} {
		if len(value) == 0 {
			continue // vSphere deletes keys with empty values
		}
		packed, err := pack(value)
		if err != nil {
			return nil, errdefs.Wrap(errdefs.Internal, err, "compress %s", key)
		}
		if len(packed) > v1alpha1.MaxGuestInfoBytes {
			return nil, errdefs.New(errdefs.InvalidArgument, "userData: %d bytes are %d bytes when compressed and encoded; a guest can read %d at most", len(value), len(packed), v1alpha1.MaxGuestInfoBytes)
		}
		out[key], out[key+".encoding"] = packed, packing
	}
	return out, nil
}

// pack compresses and encodes; the same input gives the same text.
func pack(b []byte) (string, error) {
	var buf bytes.Buffer
	w, err := gzip.NewWriterLevel(&buf, gzip.BestCompression)
	if err != nil {
		return "", err
	}
	if _, err := w.Write(b); err != nil {
		return "", err
	}
	if err := w.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(buf.Bytes()), nil
}

// unpackScript writes userData to a file and runs that in its own place. It has
// no '|', since no argument may contain one.
const unpackScript = "umask 077\n" +
	"f=/run/mcm-vch-userdata\n" +
	"mkdir -p /run\n" +
	"printf %s \"$" + userDataVariable + "\" >$f.b64\n" +
	"base64 -d $f.b64 >$f\n" +
	"rm -f $f.b64\n" +
	"unset " + userDataVariable + "\n"

// execUserData returns the command that runs userData, and the environment entry that it needs.
func execUserData(userData []byte) (argv []string, variable string, err error) {
	if len(userData) == 0 {
		return nil, "", errdefs.New(errdefs.InvalidArgument, "userData.exec: the Secret's userData is empty, there is nothing to run")
	}
	encoded := base64.StdEncoding.EncodeToString(userData)
	if len(encoded) > v1alpha1.MaxGuestInfoBytes {
		return nil, "", errdefs.New(errdefs.InvalidArgument, "userData: %d bytes are too many for userData.exec, which can carry %d", len(userData), v1alpha1.MaxGuestInfoBytes/4*3)
	}
	run := "exec /bin/sh $f\n"
	if bytes.HasPrefix(userData, []byte("#!")) {
		run = "chmod 700 $f\nexec $f\n"
	}
	return []string{"/bin/sh", "-ec", unpackScript + run}, userDataVariable + "=" + encoded, nil
}
