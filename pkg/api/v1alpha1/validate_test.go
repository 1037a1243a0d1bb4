// SPDX-FileCopyrightText: The machine-controller-manager-provider-vch authors
// SPDX-License-Identifier: Apache-2.0

package v1alpha1_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"k8s.io/utils/ptr"

	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/api/v1alpha1"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/errdefs"
	"github.com/mcm-vch/machine-controller-manager-provider-vch/pkg/identity"
)

type spec = v1alpha1.ProviderSpec

// faultCase changes a valid spec and says which fields are then at fault, each
// as "field: part of the text".
type faultCase struct {
	change func(*spec)
	want   []string
}

func TestExamplesAreValid(t *testing.T) {
	for _, raw := range []string{full, small, fromImage, withVolumes} {
		decoded, err := v1alpha1.Decode([]byte(raw))
		if err != nil {
			t.Fatal(err)
		}
		if errs := v1alpha1.Validate(decoded); len(errs) > 0 {
			t.Errorf("before defaulting: %v", errs)
		}
		v1alpha1.SetDefaults(decoded)
		if errs := v1alpha1.Validate(decoded); len(errs) > 0 {
			t.Errorf("after defaulting: %v", errs)
		}
	}
}

func TestNoSpecIsAFault(t *testing.T) {
	if errs := v1alpha1.Validate(nil); len(errs) != 1 {
		t.Errorf("Validate(nil) = %v", errs)
	}
}

// checkFaults runs cases on the full example; exactly the wanted faults must be found.
func checkFaults(t *testing.T, cases map[string]faultCase) {
	t.Helper()
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			s := mustLoad(t, full)
			tc.change(s)
			compareFaults(t, v1alpha1.Validate(s), tc.want)
		})
	}
}

func compareFaults(t *testing.T, errs field.ErrorList, want []string) {
	t.Helper()
	var got []string
	for _, e := range errs {
		got = append(got, e.Error())
		if len(e.Error()) > 600 {
			t.Errorf("the text of a fault has %d bytes", len(e.Error()))
		}
	}
	slices.Sort(got)
	want = slices.Clone(want)
	slices.Sort(want)
	matched := len(got) == len(want)
	for i := range min(len(got), len(want)) {
		path, part, _ := strings.Cut(want[i], ": ")
		matched = matched && strings.HasPrefix(got[i], path+": ") && strings.Contains(got[i], part)
	}
	if !matched {
		t.Errorf("faults are\n  %s\nwant\n  %s", strings.Join(got, "\n  "), strings.Join(want, "\n  "))
	}
}

func long(n int) string { return strings.Repeat("x", n) }

func TestWhichVCH(t *testing.T) {
	checkFaults(t, map[string]faultCase{
		"no datacenter":            {func(s *spec) { s.VCH.Datacenter = "" }, []string{"vch.datacenter: Required"}},
		"a long datacenter":        {func(s *spec) { s.VCH.Datacenter = long(1025) }, []string{"vch.datacenter: Too long"}},
		"a datacenter of one dot":  {func(s *spec) { s.VCH.Datacenter = "." }, []string{"vch.datacenter: must not have"}},
		"an empty part":            {func(s *spec) { s.VCH.Datacenter = "/a//b" }, []string{"vch.datacenter: must not have"}},
		"a pattern":                {func(s *spec) { s.VCH.Datacenter = "dc-*" }, []string{"vch.datacenter: must be exact"}},
		"a line break":             {func(s *spec) { s.VCH.Datacenter = "dc\n1" }, []string{"vch.datacenter: one line"}},
		"a NUL":                    {func(s *spec) { s.VCH.Datacenter = "dc\x00" }, []string{"vch.datacenter: NUL"}},
		"an inventory path":        {func(s *spec) { s.VCH.Datacenter = "/folder/dc-1" }, nil},
		"no way to find it":        {func(s *spec) { s.VCH.Name = "" }, []string{"vch: one of name, path and moref"}},
		"two ways":                 {func(s *spec) { s.VCH.MoRef = "vm-1" }, []string{"vch: only one of"}},
		"all ways, two wrong":      {func(s *spec) { s.VCH.MoRef, s.VCH.Path = "a b", "x" }, []string{"vch: only one of", "vch.moref: managed object", "vch.path: must begin"}},
		"a name with a slash":      {func(s *spec) { s.VCH.Name = "a/b" }, []string{"vch.name: must not contain '/'"}},
		"a name with blanks":       {func(s *spec) { s.VCH.Name = " a" }, []string{"vch.name: blank"}},
		"a long name":              {func(s *spec) { s.VCH.Name = long(81) }, []string{"vch.name: Too long"}},
		"a name that is a pattern": {func(s *spec) { s.VCH.Name = "vch-?" }, []string{"vch.name: must be exact"}},
		"a path":                   {func(s *spec) { s.VCH.Name, s.VCH.Path = "", "/dc-1/vm/vch-1/vch-1" }, nil},
		"a relative path":          {func(s *spec) { s.VCH.Name, s.VCH.Path = "", "dc-1/vm/vch-1" }, []string{"vch.path: must begin with '/'"}},
		"a long path":              {func(s *spec) { s.VCH.Name, s.VCH.Path = "", "/"+long(1024) }, []string{"vch.path: Too long"}},
		"a moref":                  {func(s *spec) { s.VCH.Name, s.VCH.MoRef = "", "vm-123" }, nil},
		"a moref with its type":    {func(s *spec) { s.VCH.Name, s.VCH.MoRef = "", "VirtualMachine:vm-1" }, []string{"vch.moref: for example vm-123"}},
		"a long moref":             {func(s *spec) { s.VCH.Name, s.VCH.MoRef = "", long(65) }, []string{"vch.moref: for example vm-123"}},
	})
}

func tagCase(key, value string, want ...string) faultCase {
	return faultCase{func(s *spec) { s.Tags[key] = value }, want}
}

func TestTags(t *testing.T) {
	checkFaults(t, map[string]faultCase{
		"none": {func(s *spec) { s.Tags = nil }, []string{
			"tags: one key kubernetes.io/cluster/<name> is required", "tags: one key kubernetes.io/role/<name> is required",
		}},
		"no cluster":           {func(s *spec) { delete(s.Tags, "kubernetes.io/cluster/shoot--demo") }, []string{"tags: one key kubernetes.io/cluster/"}},
		"no role":              {func(s *spec) { delete(s.Tags, "kubernetes.io/role/node") }, []string{"tags: one key kubernetes.io/role/"}},
		"two clusters":         tagCase("kubernetes.io/cluster/b", "", "tags: only one key kubernetes.io/cluster/"),
		"two roles":            tagCase("kubernetes.io/role/b", "", "tags: only one key kubernetes.io/role/"),
		"an empty second role": tagCase("kubernetes.io/role/", "", "tags: only one key", "tags[kubernetes.io/role/]: a name after the last slash"),
		"an empty cluster": {func(s *spec) {
			delete(s.Tags, "kubernetes.io/cluster/shoot--demo")
			s.Tags["kubernetes.io/cluster/"] = ""
		}, []string{"tags[kubernetes.io/cluster/]: a name after the last slash"}},
		"a key with a pipe":        tagCase("a|b", "", "tags[a|b]: '|'"),
		"an empty key":             tagCase("", "", "tags[]: must not be empty"),
		"a key with a blank":       tagCase("a ", "", "tags[a ]: blank"),
		"a key of two lines":       tagCase("a\nb", "", "tags[a\nb]: one line"),
		"a long key":               tagCase(long(257), "", "tags["+long(100)+"…]: more than 256"),
		"differing only in case":   tagCase("Team", "x", "tags[team]: by more than case"),
		"a long value":             tagCase("a", long(1025), "tags[a]: Too long"),
		"a value with NUL":         tagCase("a", "\x00", "tags[a]: NUL"),
		"a value not UTF-8":        tagCase("a", "\xff", "tags[a]: UTF-8"),
		"VIC's empty value":        tagCase("a", "<nil>", "tags[a]: empty value"),
		"a value with a pipe":      tagCase("a", "b|c"),
		"a key with dots, slashes": tagCase("a.b/c@d", "x"),
		"too many": {func(s *spec) {
			for i := range 64 {
				s.Tags[fmt.Sprintf("k%d", i)] = ""
			}
		}, []string{"tags: Too many: 67"}},
	})
}

func TestTagsAreRefusedWhenIdentityRefusesThem(t *testing.T) {
	cluster, role := identity.ClusterTagPrefix, identity.RoleTagPrefix
	keys := []string{cluster, cluster + "a", cluster + "b", role, role + "a", role + "b", "other"}
	for set := range 1 << len(keys) {
		tags := map[string]string{}
		for i, key := range keys {
			if set&(1<<i) != 0 {
				tags[key] = ""
			}
		}
		s := mustLoad(t, small)
		s.Tags = tags
		_, _, err := identity.Tags(tags)
		if errs := v1alpha1.Validate(s); (err == nil) != (len(errs) == 0) {
			t.Errorf("%v: identity says %v, validation says %v", tags, err, errs)
		}
	}
}

func diskCase(vmdk string, want ...string) faultCase {
	return faultCase{func(s *spec) { s.RootDisk.VMDK = vmdk }, want}
}

func TestRootDiskAndImage(t *testing.T) {
	checkFaults(t, map[string]faultCase{
		"neither":               {func(s *spec) { s.RootDisk = nil }, []string{"rootDisk: Required"}},
		"an image as well":      {func(s *spec) { s.Image = "registry/node:1" }, []string{"rootDisk.vmdk: only one of image and rootDisk.vmdk"}},
		"an image only":         {func(s *spec) { s.Image, s.RootDisk = "registry/node:1", nil }, nil},
		"a size":                {func(s *spec) { s.RootDisk.Size = quantity("8Gi") }, []string{"rootDisk.size: only with image"}},
		"registries":            {func(s *spec) { s.Registries = &v1alpha1.Registries{} }, []string{"registries: only with image"}},
		"a policy alone":        {func(s *spec) { s.ImagePullPolicy = v1alpha1.PullAlways }, []string{"imagePullPolicy: only with image"}},
		"an unknown policy":     {func(s *spec) { s.ImagePullPolicy = "Sometimes" }, []string{"imagePullPolicy: Unsupported value"}},
		"no path":               diskCase("", "rootDisk.vmdk: Required"),
		"no datastore":          diskCase("images/node.vmdk", "rootDisk.vmdk: must be a datastore path"),
		"no blank":              diskCase("[ds]node.vmdk", "rootDisk.vmdk: must be a datastore path"),
		"an absolute path":      diskCase("[ds] /node.vmdk", "rootDisk.vmdk: must be a datastore path"),
		"an empty datastore":    diskCase("[] node.vmdk", "rootDisk.vmdk: must be a datastore path"),
		"a long datastore":      diskCase("["+long(81)+"] node.vmdk", "rootDisk.vmdk: Too long"),
		"a way up":              diskCase("[ds] ../node.vmdk", "rootDisk.vmdk: must not have"),
		"another file":          diskCase("[ds] node.iso", "rootDisk.vmdk: a .vmdk file"),
		"only the ending":       diskCase("[ds] images/.vmdk", "rootDisk.vmdk: a .vmdk file"),
		"the extent":            diskCase("[ds] node-flat.vmdk", "rootDisk.vmdk: descriptor"),
		"a line break":          diskCase("[ds] node\n.vmdk", "rootDisk.vmdk: one line"),
		"too long":              diskCase("[ds] "+long(1020)+".vmdk", "rootDisk.vmdk: Too long"),
		"blanks within names":   diskCase("[my ds] my images/a node.vmdk"),
		"a datastore of blanks": diskCase("[ ds] node.vmdk", "rootDisk.vmdk: blank"),
		"placement elsewhere":   {func(s *spec) { s.Placement.Datastore = "[ds]" }, []string{"placement.datastore: without brackets"}},
		"placement too long":    {func(s *spec) { s.Placement.Datastore = long(81) }, []string{"placement.datastore: Too long"}},
		"placement by pattern":  {func(s *spec) { s.Placement.Datastore = "ds*" }, []string{"placement.datastore: must be exact"}},
		"placement nowhere":     {func(s *spec) { s.Placement.Datastore = "" }, nil},
	})
}

func quantity(s string) *resource.Quantity { return ptr.To(resource.MustParse(s)) }

func TestSizeAndResources(t *testing.T) {
	cpu := func(change func(*v1alpha1.CPUAllocation)) func(*spec) {
		return func(s *spec) { change(s.Resources.CPU) }
	}
	memory := func(change func(*v1alpha1.MemoryAllocation)) func(*spec) {
		return func(s *spec) { change(s.Resources.Memory) }
	}
	checkFaults(t, map[string]faultCase{
		"no cpu":                 {func(s *spec) { s.CPUs = ptr.To[int32](0) }, []string{"cpus: between 1 and 128"}},
		"too many cpus":          {func(s *spec) { s.CPUs = ptr.To[int32](129) }, []string{"cpus: between 1 and 128"}},
		"the most cpus":          {func(s *spec) { s.CPUs = ptr.To[int32](128) }, nil},
		"little memory":          {func(s *spec) { s.Memory, s.Resources = quantity("511Mi"), nil }, []string{"memory: between 512Mi and 6Ti"}},
		"negative memory":        {func(s *spec) { s.Memory, s.Resources = quantity("-1Gi"), nil }, []string{"memory: between"}},
		"too much memory":        {func(s *spec) { s.Memory = quantity("6145Gi") }, []string{"memory: between"}},
		"the most memory":        {func(s *spec) { s.Memory = quantity("6Ti") }, nil},
		"the least memory":       {func(s *spec) { s.Memory, s.Resources = quantity("512Mi"), nil }, nil},
		"a negative reservation": {cpu(func(c *v1alpha1.CPUAllocation) { c.ReservationMHz = ptr.To[int64](-1) }), []string{"resources.cpu.reservationMHz: between 0"}},
		"a huge reservation": {cpu(func(c *v1alpha1.CPUAllocation) { c.ReservationMHz = ptr.To[int64](1 << 40) }), []string{
			"resources.cpu.reservationMHz: between 0", "resources.cpu.reservationMHz: not be more than limitMHz",
		}},
		"a limit of nothing":       {cpu(func(c *v1alpha1.CPUAllocation) { c.LimitMHz = ptr.To[int64](0) }), []string{"resources.cpu.limitMHz: between 1"}},
		"more than the limit":      {cpu(func(c *v1alpha1.CPUAllocation) { c.ReservationMHz = ptr.To[int64](8001) }), []string{"resources.cpu.reservationMHz: limitMHz"}},
		"unknown shares":           {cpu(func(c *v1alpha1.CPUAllocation) { c.Shares = "most" }), []string{"resources.cpu.shares: low, normal, high"}},
		"no shares":                {cpu(func(c *v1alpha1.CPUAllocation) { c.Shares = "0" }), []string{"resources.cpu.shares: low, normal, high"}},
		"shares like +5":           {cpu(func(c *v1alpha1.CPUAllocation) { c.Shares = "+5" }), []string{"resources.cpu.shares: low, normal, high"}},
		"too many shares":          {memory(func(m *v1alpha1.MemoryAllocation) { m.Shares = "1000001" }), []string{"resources.memory.shares: low, normal, high"}},
		"half a MiB":               {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation = quantity("512Ki") }), []string{"resources.memory.reservation: whole MiB"}},
		"thousandths of a byte":    {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation = quantity("1073741823500m") }), []string{"resources.memory.reservation: whole MiB"}},
		"half a GiB":               {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation = quantity("0.5Gi") }), nil},
		"a negative one":           {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation = quantity("-1Mi") }), []string{"resources.memory.reservation: whole MiB"}},
		"a limit of no memory":     {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation, m.Limit = nil, quantity("0") }), []string{"resources.memory.limit: whole MiB"}},
		"a limit beyond":           {memory(func(m *v1alpha1.MemoryAllocation) { m.Limit = quantity("7Ti") }), []string{"resources.memory.limit: whole MiB"}},
		"more than memory":         {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation, m.Limit = quantity("5Gi"), nil }), []string{"resources.memory.reservation: not be more than memory"}},
		"more than memory's limit": {memory(func(m *v1alpha1.MemoryAllocation) { m.Reservation, m.Limit = quantity("3Gi"), quantity("2Gi") }), []string{"resources.memory.reservation: not be more than limit"}},
	})
}

func TestProcess(t *testing.T) {
	many := slices.Repeat([]string{"a"}, 257)
	checkFaults(t, map[string]faultCase{
		"no command":                {func(s *spec) { s.Command = nil }, []string{"command: required unless image or userData.exec is set"}},
		"an empty command":          {func(s *spec) { s.Command = []string{""} }, []string{"command: Required"}},
		"userData as command":       {func(s *spec) { s.Command, s.Args, s.UserData.Exec = nil, nil, ptr.To(true) }, nil},
		"userData and a command":    {func(s *spec) { s.UserData.Exec = ptr.To(true) }, []string{"args: must be empty", "command: must be empty"}},
		"a pipe in the command":     {func(s *spec) { s.Command[0] = "a|b" }, []string{"command[0]: '|'"}},
		"a pipe in an argument":     {func(s *spec) { s.Args[1] = "a|b" }, []string{"args[1]: '|'"}},
		"a NUL in an argument":      {func(s *spec) { s.Args[0] = "a\x00b" }, []string{"args[0]: NUL"}},
		"a bell in an argument":     {func(s *spec) { s.Args[0] = "a\x07b" }, []string{"args[0]: control character U+0007"}},
		"an argument not UTF-8":     {func(s *spec) { s.Args[0] = "a\xc3" }, []string{"args[0]: UTF-8"}},
		"an argument of no letter":  {func(s *spec) { s.Args[0] = "\uFFFF" }, []string{"args[0]: U+FFFF"}},
		"an argument of lines":      {func(s *spec) { s.Args[0] = "a\n\tb\r\n" }, nil},
		"an empty argument":         {func(s *spec) { s.Args[0] = "" }, nil},
		"too many arguments":        {func(s *spec) { s.Args = many }, []string{"args: Too many"}},
		"a command of many":         {func(s *spec) { s.Command = many }, []string{"command: Too many"}},
		"too long arguments":        {func(s *spec) { s.Args = []string{long(40000), long(40000)} }, []string{"args: bytes together"}},
		"a relative directory":      {func(s *spec) { s.WorkingDir = "var" }, []string{"workingDir: must be absolute"}},
		"a long directory":          {func(s *spec) { s.WorkingDir = "/" + long(1024) }, []string{"workingDir: Too long"}},
		"a directory of two lines":  {func(s *spec) { s.WorkingDir = "/a\nb" }, []string{"workingDir: one line"}},
		"a user with its group":     {func(s *spec) { s.User = "root:root" }, []string{"user: a name or a number"}},
		"a long user":               {func(s *spec) { s.User = long(65) }, []string{"user: a name or a number"}},
		"a group that is an option": {func(s *spec) { s.Group = "-1" }, []string{"group: a name or a number"}},
		"a domain with a slash":     {func(s *spec) { s.Domain = "a/b" }, []string{"domain: RFC 1123"}},
		"a long domain":             {func(s *spec) { s.Domain = long(63) }, []string{"domain: leave room"}},
	})
}

func envCase(change func(*v1alpha1.EnvVar), want ...string) faultCase {
	return faultCase{func(s *spec) { change(&s.Env[0]) }, want}
}

func TestEnvironment(t *testing.T) {
	checkFaults(t, map[string]faultCase{
		"no name":             envCase(func(e *v1alpha1.EnvVar) { e.Name = "" }, "env[0].name: Required"),
		"a name with =":       envCase(func(e *v1alpha1.EnvVar) { e.Name = "A=B" }, "env[0].name: without '='"),
		"a name with a pipe":  envCase(func(e *v1alpha1.EnvVar) { e.Name = "A|B" }, "env[0].name: without '='"),
		"a long name":         envCase(func(e *v1alpha1.EnvVar) { e.Name = long(257) }, "env[0].name: Too long"),
		"a name given twice":  envCase(func(e *v1alpha1.EnvVar) { e.Name = "K3S_TOKEN" }, "env[1].name: Duplicate"),
		"no value":            envCase(func(e *v1alpha1.EnvVar) { e.Value = nil }, "env[0].value: one of value and valueFrom"),
		"an empty value":      envCase(func(e *v1alpha1.EnvVar) { e.Value = ptr.To("") }),
		"two values":          envCase(func(e *v1alpha1.EnvVar) { e.ValueFrom = &v1alpha1.EnvVarSource{SecretKey: "x"} }, "env[0].valueFrom: only one of"),
		"a value with a pipe": envCase(func(e *v1alpha1.EnvVar) { e.Value = ptr.To("a|b") }, `env[0].value: "<omitted>": of K3S_URL must not contain '|'`),
		"a value with NUL":    envCase(func(e *v1alpha1.EnvVar) { e.Value = ptr.To("\x00") }, "env[0].value: NUL"),
		"a long value":        envCase(func(e *v1alpha1.EnvVar) { e.Value = ptr.To(long(65536)) }, "env: Too long"),
		"no key":              {func(s *spec) { s.Env[1].ValueFrom.SecretKey = "" }, []string{"env[1].valueFrom.secretKey: Required"}},
		"a key no Secret has": {func(s *spec) { s.Env[1].ValueFrom.SecretKey = "a/b" }, []string{"env[1].valueFrom.secretKey: a valid config key"}},
		"vCenter's password":  {func(s *spec) { s.Env[1].ValueFrom.SecretKey = "vspherePassword" }, []string{"env[1].valueFrom.secretKey: not given to machines"}},
		"the registries'":     {func(s *spec) { s.Env[1].ValueFrom.SecretKey = ".dockerconfigjson" }, []string{"env[1].valueFrom.secretKey: not given to machines"}},
		"userData":            {func(s *spec) { s.Env[1].ValueFrom.SecretKey = "userData" }, nil},
		"too many": {func(s *spec) {
			s.Env = nil
			for i := range 257 {
				s.Env = append(s.Env, v1alpha1.EnvVar{Name: fmt.Sprintf("E%d", i), Value: ptr.To("")})
			}
		}, []string{"env: Too many"}},
	})
}

func netCase(change func(*v1alpha1.Network), want ...string) faultCase {
	return faultCase{func(s *spec) { change(&s.Networks[0]) }, want}
}

func TestNetworks(t *testing.T) {
	address := func(a, gw string, want ...string) faultCase {
		return netCase(func(n *v1alpha1.Network) { n.Address, n.Gateway = a, gw }, want...)
	}
	const at, gw = "networks[0].address: ", "networks[0].gateway: "
	checkFaults(t, map[string]faultCase{
		"none":                   {func(s *spec) { s.Networks = nil }, []string{"networks: at least one"}},
		"no name":                netCase(func(n *v1alpha1.Network) { n.Name = "" }, "networks[0].name: Required"),
		"a name with a pipe":     netCase(func(n *v1alpha1.Network) { n.Name = "a|b" }, "networks[0].name: '|' or '@'"),
		"a name with an @":       netCase(func(n *v1alpha1.Network) { n.Name = "a@b" }, "networks[0].name: '|' or '@'"),
		"a name with a blank":    netCase(func(n *v1alpha1.Network) { n.Name = "a " }, "networks[0].name: blank"),
		"a long name":            netCase(func(n *v1alpha1.Network) { n.Name = long(81) }, "networks[0].name: Too long"),
		"the same name":          netCase(func(n *v1alpha1.Network) { n.Name = "storage.network" }, "networks[1].name: Duplicate"),
		"the same to VIC":        netCase(func(n *v1alpha1.Network) { n.Name = "storage/network" }, "networks[1].name: Duplicate"),
		"the same in capitals":   netCase(func(n *v1alpha1.Network) { n.Name = "Storage.Network" }, "networks[1].name: Duplicate"),
		"an unknown trust level": netCase(func(n *v1alpha1.Network) { n.TrustLevel = "full" }, "networks[0].trustLevel: Unsupported"),
		"two default routes":     {func(s *spec) { s.Networks[1].Default = ptr.To(true) }, []string{"networks[1].default: networks[0] carries"}},
		"no default route":       netCase(func(n *v1alpha1.Network) { n.Default = ptr.To(false) }),
		"five": {func(s *spec) {
			s.Networks = append(s.Networks, v1alpha1.Network{Name: "c"}, v1alpha1.Network{Name: "d"}, v1alpha1.Network{Name: "e"})
		}, []string{"networks: Too many"}},
		"DHCP with a gateway":      address("", "10.0.0.1", gw+"only with address"),
		"DHCP":                     address("", ""),
		"the VCH's gateway":        address("10.0.0.7/24", ""),
		"no prefix length":         address("10.0.0.7", "10.0.0.1", at+"IPv4 address with prefix length"),
		"IPv6":                     address("fd00::7/64", "", at+"IPv4 address with prefix length"),
		"IPv4 in IPv6":             address("::ffff:10.0.0.7/120", "", at+"IPv4 address with prefix length"),
		"a prefix of 33":           address("10.0.0.7/33", "", at+"IPv4 address with prefix length"),
		"a prefix of 0":            address("10.0.0.7/0", "", at+"at least 1"),
		"no address":               address("0.0.0.0/24", "", at+"of a host"),
		"loopback":                 address("127.0.0.1/8", "", at+"of a host"),
		"multicast":                address("224.0.0.5/24", "", at+"of a host"),
		"the subnet":               address("10.0.0.0/24", "", at+"address of the subnet"),
		"the broadcast address":    address("10.0.0.255/24", "", at+"broadcast address"),
		"two hosts, no network":    address("10.0.0.0/31", "10.0.0.1"),
		"text":                     address("dhcp", "", at+"IPv4 address with prefix length"),
		"much text":                address(long(5000), "", at+"IPv4 address with prefix length"),
		"a gateway elsewhere":      address("10.0.0.7/24", "10.0.1.1", gw+"in the subnet 10.0.0.0/24"),
		"a gateway for everybody":  address("10.0.0.7/24", "10.0.0.255", gw+"in the subnet 10.0.0.0/24"),
		"a gateway that is itself": address("10.0.0.7/24", "10.0.0.7", gw+"differ from address"),
		"a gateway of IPv6":        address("10.0.0.7/24", "fd00::1", gw+"an IPv4 address"),
		"a gateway of text":        address("10.0.0.7/24", "router", gw+"an IPv4 address"),
		"a resolver by name":       netCase(func(n *v1alpha1.Network) { n.Nameservers[0] = "dns" }, "networks[0].nameservers[0]: IPv4 address of a resolver"),
		"no resolver":              netCase(func(n *v1alpha1.Network) { n.Nameservers[0] = "0.0.0.0" }, "networks[0].nameservers[0]: IPv4 address of a resolver"),
		"a resolver twice":         netCase(func(n *v1alpha1.Network) { n.Nameservers[1] = n.Nameservers[0] }, "networks[0].nameservers[1]: Duplicate"),
		"four resolvers":           netCase(func(n *v1alpha1.Network) { n.Nameservers = append(n.Nameservers, "10.0.0.4", "10.0.0.5") }, "networks[0].nameservers: Too many"),
	})
}

func TestStopAndStart(t *testing.T) {
	checkFaults(t, map[string]faultCase{
		"a signal VIC lacks": {func(s *spec) { s.StopSignal = "SIGRTMIN+3" }, []string{"stopSignal: Unsupported"}},
		"a signal's number":  {func(s *spec) { s.StopSignal = "15" }, []string{"stopSignal: Unsupported"}},
		"only SIG":           {func(s *spec) { s.StopSignal = "SIG" }, []string{"stopSignal: Unsupported"}},
		"a negative period":  {func(s *spec) { s.StopGracePeriodSeconds = ptr.To[int64](-1) }, []string{"stopGracePeriodSeconds: between 0 and 600"}},
		"a long period":      {func(s *spec) { s.StopGracePeriodSeconds = ptr.To[int64](601) }, []string{"stopGracePeriodSeconds: between 0 and 600"}},
		"no period":          {func(s *spec) { s.StopGracePeriodSeconds = ptr.To[int64](0) }, nil},
		"a short start":      {func(s *spec) { s.StartTimeoutSeconds = ptr.To[int64](9) }, []string{"startTimeoutSeconds: between 10 and 1800"}},
		"a long start":       {func(s *spec) { s.StartTimeoutSeconds = ptr.To[int64](1801) }, []string{"startTimeoutSeconds: between 10 and 1800"}},
	})
	for _, name := range []string{"ABRT", "ALRM", "FPE", "HUP", "ILL", "INT", "KILL", "PIPE", "QUIT", "SEGV", "TERM", "USR1", "USR2"} {
		for _, spelling := range []string{name, "SIG" + name, strings.ToLower("sig" + name)} {
			s := mustLoad(t, full)
			s.StopSignal = spelling
			if errs := v1alpha1.Validate(s); len(errs) > 0 {
				t.Errorf("%s: %v", spelling, errs)
			}
		}
	}
}

func extraCase(key, value string, want ...string) faultCase {
	return faultCase{func(s *spec) { s.ExtraConfig[key] = value }, want}
}

func TestExtraConfig(t *testing.T) {
	cases := map[string]faultCase{
		"an empty key":           extraCase("", "x", "extraConfig[]: must not be empty"),
		"a key with a blank":     extraCase("a b", "x", "extraConfig[a b]: printable ASCII"),
		"a key with a bell":      extraCase("a\a", "x", "extraConfig[a\a]: printable ASCII"),
		"a key with a pipe":      extraCase("a|b", "x", "extraConfig[a|b]: printable ASCII"),
		"a key not ASCII":        extraCase("ä", "x", "extraConfig[ä]: printable ASCII"),
		"a long key":             extraCase(long(129), "x", "extraConfig["+long(100)+"…]: more than 128"),
		"differing only in case": extraCase("sched.cpu.latencysensitivity", "x", "extraConfig[sched.cpu.latencysensitivity]: by more than case"),
		"an empty value":         extraCase("a", "", "extraConfig[a]: would delete the key"),
		"VIC's empty value":      extraCase("a", "<nil>", "extraConfig[a]: empty value"),
		"a value with NUL":       extraCase("a", "\x00", "extraConfig[a]: NUL"),
		"a long value":           extraCase("a", long(65536), "extraConfig: Too long"),
		"a value with a pipe":    extraCase("a", "b|c"),
		"a key like ours":        extraCase("serial.x", "1"),
		"vendor data":            extraCase("guestinfo.vendordata", "x"),
		"too many": {func(s *spec) {
			for i := range 128 {
				s.ExtraConfig[fmt.Sprintf("k%d", i)] = "x"
			}
		}, []string{"extraConfig: Too many"}},
	}
	for owner, keys := range map[string][]string{
		"belongs to VIC": {
			"guestinfo.vice./common/id", "GuestInfo.VICE..x", "guestinfo.ovfEnv", "UpdateInProgress", "common/name", "annotations",
			"annotations/x", "sessions", "networks", "networks@x", "execs@non-persistent", "init/common/name",
		},
		"belongs to userData":     {"guestinfo.userdata", "guestinfo.userdata.encoding", "guestinfo.metadata", "guestinfo.metadata.encoding"},
		"belongs to the provider": {"disk.EnableUUID", "answer.msg.serial.file.open", "memory.maxGrow", "tools.upgrade.policy", "serial0.hardwareFlowControl"},
		"the VM's own":            {"scsi0:0.fileName", "ethernet0.address", "ide1:0.present", "serial1.fileName", "uuid.bios", "displayName", "numvcpus", "memSize", "nvram"},
	} {
		for _, key := range keys {
			cases["the key "+key] = extraCase(key, "x", "extraConfig["+key+"]: "+owner)
		}
	}
	checkFaults(t, cases)
}

func TestMachineNames(t *testing.T) {
	for name, tc := range map[string]struct {
		machine string
		spec    *spec
		want    string
	}{
		"a name of MCM":                  {"shoot--demo-worker-z1-5d8f7-abcde", &spec{Domain: "example.org"}, ""},
		"a name with a dot":              {"node.a", nil, ""},
		"a short name":                   {"m1", nil, ""}, // MCM fails on it, but only with userData; Delete must work
		"none":                           {"", nil, "RFC 1123"},
		"capitals":                       {"Node-1", nil, "RFC 1123"},
		"a slash":                        {"a/b", nil, "RFC 1123"},
		"a name longer than a host's":    {long(65), nil, "no more than 64 bytes"},
		"one that is longer with domain": {long(53), &spec{Domain: "example.org"}, "no more than 64 bytes"},
		"one that just fits":             {long(52), &spec{Domain: "example.org"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := v1alpha1.ValidateMachineName(tc.machine, tc.spec)
			switch {
			case tc.want == "" && err != nil:
				t.Errorf("refused: %v", err)
			case tc.want != "" && (!errdefs.Is(err, errdefs.InvalidArgument) || !strings.Contains(err.Error(), tc.want)):
				t.Errorf("error = %v, want InvalidArgument with %q", err, tc.want)
			}
		})
	}
}

func TestValidateChangesNothing(t *testing.T) {
	s := mustLoad(t, full)
	want := s.DeepCopy()
	v1alpha1.Validate(s)
	if diff := cmp.Diff(want, s); diff != "" {
		t.Errorf("Validate changed the spec (-want +got):\n%s", diff)
	}
}
