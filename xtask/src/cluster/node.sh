# Makes a pair of fresh namespaces a node: what its daemons would write to the machine goes to the node's disk.
# $disk: that folder; $folders: what lies on it.
set -eu
# Cut off from the machine's mounts, and shared among each other: mountPropagation: Bidirectional needs it.
mount --make-rshared /
for folder in $folders; do
  mkdir -p "$disk$folder"
  mount --bind "$disk$folder" "$folder"
done
# The kubelet sets these (protectKernelDefaults), the machine's stay as they are.
mkdir "$disk/sysctl"
while read -r name value; do
  file=$disk/sysctl/$(echo "$name" | tr / _)
  echo "$value" >"$file"
  mount --bind "$file" "/proc/sys/$name"
done <<END
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END
echo 1 >/proc/sys/net/ipv4/ip_forward
ip link set lo up
