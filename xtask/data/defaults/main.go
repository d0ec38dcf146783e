// Runs the function of containerd that makes its default profile, and writes what it makes as JSON in docker's dialect.
//
// `cargo xtask codegen --refresh-defaults` puts containerd's file beside this one, with `runtime.GOARCH` as a variable and the kernel's release
// in our hand, so that one machine answers for all.
package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"

	containerd "defaults/containerd"
	"defaults/kernelversion"

	"github.com/opencontainers/runtime-spec/specs-go"
)

type condition struct {
	Caps   []string `json:"caps,omitempty"`
	Arches []string `json:"arches,omitempty"`
	// MinKernel is the only release that containerd asks for, on the rules that an older kernel does not have.
	MinKernel string `json:"minKernel,omitempty"`
}

type rule struct {
	specs.LinuxSyscall
	Includes condition `json:"includes,omitzero"`
	Excludes condition `json:"excludes,omitzero"`
}

type mapping struct {
	Architecture     specs.Arch   `json:"architecture"`
	SubArchitectures []specs.Arch `json:"subArchitectures"`
}

type profile struct {
	DefaultAction   specs.LinuxSeccompAction `json:"defaultAction"`
	DefaultErrnoRet *uint                    `json:"defaultErrnoRet,omitempty"`
	ArchMap         []mapping                `json:"archMap"`
	Syscalls        []rule                   `json:"syscalls"`
}

func main() {
	source := string(must(os.ReadFile("containerd/seccomp_default.go")))
	text := append(must(json.MarshalIndent(find(source), "", "\t")), '\n')
	if err := os.WriteFile("containerd.json", text, 0o644); err != nil {
		panic(err)
	}
}

// find finds out on which architectures, with which capability and on which kernel each rule is there, by asking for each of them alone; then
// it asks for sets of capabilities and holds the answers against what it found.
func find(source string) profile {
	capabilities := literals(source, `"(CAP_[A-Z_]+)"`)
	arches := slices.DeleteFunc(literals(source, `"([a-z0-9]+)"`), func(name string) bool {
		return !regexp.MustCompile(`case [^:\n]*"` + name + `"[^\n]*:\n`).MatchString(source)
	})

	type place struct {
		without bool
		with    []string
	}
	var order []string
	rules := map[string]specs.LinuxSyscall{}
	places := map[string]map[string]*place{}
	old := map[string]bool{}
	result := profile{}
	for _, arch := range arches {
		for _, capability := range append([]string{""}, capabilities...) {
			made := run(arch, false, capability)
			result.DefaultAction, result.DefaultErrnoRet = made.DefaultAction, made.DefaultErrnoRet
			for _, syscall := range made.Syscalls {
				key := text(syscall)
				if places[key] == nil {
					order = append(order, key)
					rules[key], places[key] = syscall, map[string]*place{}
				}
				if places[key][arch] == nil {
					places[key][arch] = &place{}
				}
				if capability == "" {
					places[key][arch].without = true
				} else {
					places[key][arch].with = append(places[key][arch].with, capability)
				}
			}
			for _, syscall := range run(arch, true, capability).Syscalls {
				old[text(syscall)] = true
			}
		}
		if made := run(arch, false); len(made.Architectures) > 0 {
			native := nativeOf[arch]
			if native == "" {
				panic("no architecture of OCI is known for " + arch)
			}
			subs := slices.DeleteFunc(made.Architectures, func(sub specs.Arch) bool { return sub == native })
			result.ArchMap = append(result.ArchMap, mapping{native, append([]specs.Arch{}, subs...)})
		}
	}
	if len(kernelversion.Asked) != 1 {
		panic(fmt.Sprintf("containerd asks for other kernels than one: %v", kernelversion.Asked))
	}
	for _, key := range order {
		// A rule whose capabilities differ between architectures becomes several.
		conditions := map[string]rule{}
		for _, arch := range slices.Sorted(maps.Keys(places[key])) {
			at := places[key][arch]
			added := rule{LinuxSyscall: rules[key]}
			if !old[key] {
				for release := range kernelversion.Asked {
					added.Includes.MinKernel = fmt.Sprintf("%d.%d", release.Kernel, release.Major)
				}
			}
			if at.without {
				added.Excludes.Caps = slices.DeleteFunc(slices.Clone(capabilities), func(name string) bool { return slices.Contains(at.with, name) })
				merge(conditions, added, arch)
				continue
			}
			for _, capability := range at.with {
				added.Includes.Caps = []string{capability}
				merge(conditions, added, arch)
			}
		}
		for _, name := range slices.Sorted(maps.Keys(conditions)) {
			added := conditions[name]
			if len(added.Includes.Arches) == len(arches) {
				added.Includes.Arches = nil
			}
			result.Syscalls = append(result.Syscalls, added)
		}
	}

	sets := [][]string{{}, capabilities}
	for i := range capabilities {
		sets = append(sets, capabilities[:i], capabilities[i:])
		for j := range i {
			sets = append(sets, []string{capabilities[i], capabilities[j]})
		}
	}
	asked := 0
	for _, arch := range arches {
		for _, set := range sets {
			for _, old := range []bool{false, true} {
				if !same(run(arch, old, set...).Syscalls, result.resolve(arch, old, set)) {
					panic(fmt.Sprintf("%s with %v: the conditions do not give what the function gives", arch, set))
				}
				asked++
			}
		}
	}
	fmt.Printf("containerd: %d rules, the right answer to %d questions on %v\n", len(result.Syscalls), asked, arches)
	return result
}

// Names of the Go compiler and of OCI.
var nativeOf = map[string]specs.Arch{
	"amd64": specs.ArchX86_64, "arm64": specs.ArchAARCH64, "riscv64": specs.ArchRISCV64, "s390x": specs.ArchS390X, "mips64": specs.ArchMIPS64,
	"mips64n32": specs.ArchMIPS64N32, "mipsel64": specs.ArchMIPSEL64, "mipsel64n32": specs.ArchMIPSEL64N32, "loong64": specs.ArchLOONGARCH64,
}

func run(arch string, old bool, capabilities ...string) *specs.LinuxSeccomp {
	containerd.GOARCH, kernelversion.Old = arch, old
	capabilities = slices.DeleteFunc(slices.Clone(capabilities), func(name string) bool { return name == "" })
	return containerd.DefaultProfile(&specs.Spec{Process: &specs.Process{Capabilities: &specs.LinuxCapabilities{Bounding: capabilities}}})
}

func merge(conditions map[string]rule, added rule, arch string) {
	key := text(added)
	if known, ok := conditions[key]; ok {
		added = known
	}
	added.Includes.Arches = append(added.Includes.Arches, arch)
	conditions[key] = added
}

// resolve has the rules of an architecture with a set of capabilities, as docker evaluates the conditions.
func (p profile) resolve(arch string, old bool, capabilities []string) []specs.LinuxSyscall {
	var resolved []specs.LinuxSyscall
	for _, rule := range p.Syscalls {
		has := func(name string) bool { return slices.Contains(capabilities, name) }
		included := !(old && rule.Includes.MinKernel != "")
		included = included && (len(rule.Includes.Arches) == 0 || slices.Contains(rule.Includes.Arches, arch))
		for _, capability := range rule.Includes.Caps {
			included = included && has(capability)
		}
		if included && !slices.ContainsFunc(rule.Excludes.Caps, has) {
			resolved = append(resolved, rule.LinuxSyscall)
		}
	}
	return resolved
}

// same is true for lists of the same rules: where a call has several, they are all for the same action.
func same(left, right []specs.LinuxSyscall) bool {
	texts := func(rules []specs.LinuxSyscall) map[string]bool {
		set := map[string]bool{}
		for _, rule := range rules {
			set[text(rule)] = true
		}
		return set
	}
	return maps.Equal(texts(left), texts(right))
}

func literals(source, pattern string) []string {
	set := map[string]bool{}
	for _, found := range regexp.MustCompile(pattern).FindAllStringSubmatch(source, -1) {
		set[found[1]] = true
	}
	return slices.Sorted(maps.Keys(set))
}

func text(value any) string { return string(must(json.Marshal(value))) }

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}
