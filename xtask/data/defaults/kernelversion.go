// Package kernelversion stands in for containerd's, which asks the running kernel.
package kernelversion

type KernelVersion struct{ Kernel, Major uint64 }

var (
	// Old makes the kernel older than whatever is asked for.
	Old bool
	// Asked has every release that was asked for.
	Asked = map[KernelVersion]bool{}
)

func GreaterEqualThan(release KernelVersion) (bool, error) {
	Asked[release] = true
	return !Old, nil
}
