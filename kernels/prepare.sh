#!/usr/bin/env bash
# Makes what a virtual machine boots: called by main.ts, which says what is missing before.
#
#   prepare.sh list DIRECTORY ARCH MIRROR
#   prepare.sh kernel DIRECTORY ARCH MIRROR RELEASE     once a kernel: vmlinuz and initrd
#   prepare.sh system DIRECTORY ARCH MIRROR             once: a small Debian, as a disk
#   prepare.sh work DIRECTORY ARCH CHECKOUT DENO CACHE COMMAND DISK   each time: what is tested
#
# ARCH is Debian's word: amd64 or arm64. Nothing of the latter is run here. DIRECTORY keeps all
# of it. The apt of this machine is not touched: this one has its own configuration, lists and
# cache in there.
set -euo pipefail
what=$1 directory=$2 arch=$3

KEYS=/usr/share/keyrings/debian-archive-keyring.gpg
SUITES="bullseye bookworm bookworm-backports trixie trixie-backports"
SECURITY="bullseye-security bookworm-security trixie-security"
# What the tests break networks with, and what the disks need.
MODULES="virtio_pci virtio_blk virtio_rng tun veth bridge dummy ipv6 af_packet tls overlay loop
  sch_netem sch_tbf sch_ingress sch_htb cls_u32 cls_matchall act_mirred
  nf_tables nft_ct nft_reject nft_reject_inet nft_reject_ipv4 nft_limit nft_log nft_counter
  nft_chain_nat nft_nat nft_compat nft_numgen nft_redir nft_quota nft_objref nf_conntrack
  nf_reject_ipv4 nf_reject_ipv6 tcp_bbr unix_diag tcp_diag inet_diag"
# Features that older kernels cannot mount are left out.
MAKE_DISK="mke2fs -q -t ext4 -O ^orphan_file,^metadata_csum_seed"

packages() {
  local apt=$directory/apt-$arch
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  {
    for suite in $SUITES; do echo "deb [signed-by=$KEYS] $mirror/debian $suite main"; done
    for suite in $SECURITY; do echo "deb [signed-by=$KEYS] $mirror/debian-security $suite main"; done
  } >"$apt/sources.list"
  cat >"$apt/apt.conf" <<CONFIGURATION
Dir::Etc::sourcelist "$apt/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State::Lists "$apt/lists";
Dir::State::status "$apt/status";
Dir::Cache "$apt/cache";
APT::Architecture "$arch";
APT::Architectures { "$arch"; };
APT::Sandbox::User "root";
CONFIGURATION
  export APT_CONFIG=$apt/apt.conf
  if [ -z "$(find "$apt/lists" -name '*Packages*' -mtime -7 -print -quit)" ]; then
    apt-get update -qq
  fi
}

list() {
  packages
  apt-cache search --names-only '^linux-image-[0-9].*-cloud-'"$arch"'$' |
    sed 's/^linux-image-//; s/ .*//' | sort -V
}

# The kernel, and of its modules those above with what they need.
kernel() {
  local release=$1 target=$directory/kernels/$1 parts tree version
  [ -e "$target/initrd" ] && return
  packages
  rm -rf "$target"
  mkdir -p "$target/packages" "$target/tree" "$target/initial"/{bin,dev,proc,sys,system,lib/modules}
  # Since 6.19 an image is in three parts.
  parts=$(apt-cache depends "linux-image-$release" |
    sed -n 's/^ *Depends: *\(linux-\(base\|binary\|modules\)-[0-9].*\)$/\1/p')
  (cd "$target/packages" && apt-get download -qq busybox-static "linux-image-$release" $parts)
  for package in "$target"/packages/*.deb; do dpkg -x "$package" "$target/tree"; done
  find "$target/tree" -name 'vmlinuz*' -type f -exec cp {} "$target/vmlinuz" \;
  # Wherever it lies, modprobe looks below /lib/modules.
  tree=$(find "$target/tree" -type d -path '*/lib/modules/*' -prune -print -quit)
  version=$(basename "$tree")
  mkdir -p "$target/all/lib/modules"
  mv "$tree" "$target/all/lib/modules/"
  depmod -b "$target/all" "$version"
  for module in $MODULES; do
    # One that this release has built in, or does not have.
    modprobe -S "$version" -d "$target/all" --show-depends "$module" 2>/dev/null || true
  done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | awk '!seen[$0]++' | while read -r file; do
    relative=${file#*/lib/modules/}
    mkdir -p "$target/initial/lib/modules/$(dirname "$relative")"
    case $file in
      *.xz) xz -dc "$file" >"$target/initial/lib/modules/${relative%.xz}" ;;
      *.zst) zstd -qdc "$file" >"$target/initial/lib/modules/${relative%.zst}" ;;
      *) cp "$file" "$target/initial/lib/modules/$relative" ;;
    esac
  done
  for name in order builtin builtin.modinfo; do # The last one is newer than the oldest kernels.
    [ ! -e "$target/all/lib/modules/$version/modules.$name" ] ||
      cp "$target/all/lib/modules/$version/modules.$name" "$target/initial/lib/modules/$version/"
  done
  depmod -b "$target/initial" "$version"
  find "$target/tree" -path '*bin/busybox' -type f -exec cp {} "$target/initial/bin/busybox" \;
  for module in virtio_pci virtio_blk virtio_rng; do
    modprobe -S "$version" -d "$target/initial" --show-depends "$module" 2>/dev/null || true
  done | sed -n "s|^insmod $target/initial\([^ ]*\).*|\1|p" >"$target/initial/first"
  cat >"$target/initial/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc; $b mount -t sysfs sysfs /sys; $b mount -t devtmpfs dev /dev
for file in $($b cat /first); do $b insmod "$file" 2>/dev/null; done
tries=0
until [ -b /dev/vdb ] || [ $tries = 100 ]; do $b sleep 0.1; tries=$((tries + 1)); done
$b mount -t ext4 /dev/vda /system && $b mkdir -p /system/lib/modules /system/work &&
  $b cp -a /lib/modules/. /system/lib/modules/ && $b mount -t ext4 /dev/vdb /system/work ||
  { echo "KERNELS-END 254"; $b poweroff -f; }
for name in dev proc sys; do $b mount --move /$name /system/$name; done
exec $b switch_root /system /work/start
INIT
  chmod +x "$target/initial/init"
  (cd "$target/initial" && find . | cpio -o -H newc --quiet | gzip -1) >"$target/initrd.new"
  rm -rf "$target"/{packages,tree,all,initial}
  mv "$target/initrd.new" "$target/initrd"
}

# Without the scripts of its packages, which this machine could not run: what they would have
# made and the tests need is made here.
unpacked() {
  local root=$1 package
  for package in "$root"/var/cache/apt/archives/*.deb; do
    dpkg-deb --fsys-tarfile "$package" | tar -x -C "$root" --keep-directory-symlink
  done
  cp "$root/usr/share/base-passwd/passwd.master" "$root/etc/passwd"
  cp "$root/usr/share/base-passwd/group.master" "$root/etc/group"
  cp "$root/usr/share/libc-bin/nsswitch.conf" "$root/etc/nsswitch.conf"
  mkdir -p "$root/usr/local/lib"
  [ -e "$root/usr/bin/sh" ] || ln -s dash "$root/usr/bin/sh"
  [ -e "$root/usr/bin/awk" ] || ln -s mawk "$root/usr/bin/awk"
  # Not a link to itself, as debootstrap leaves it for whoever goes on by chroot.
  rm -rf "$root/proc" "$root/debootstrap"
  mkdir "$root/proc"
}

system() {
  local root=$directory/system-$arch foreign=
  [ -e "$root.img" ] && return
  [ "$arch" = "$(dpkg --print-architecture)" ] || foreign=--foreign
  rm -rf "$root"
  debootstrap --variant=minbase --arch="$arch" $foreign \
    --include=iproute2,nftables,strace,procps,python3-minimal,iputils-ping,kmod \
    bookworm "$root" "$mirror/debian" >"$directory/debootstrap.log"
  [ -z "$foreign" ] || unpacked "$root"
  rm -rf "$root"/var/cache/apt/archives/*.deb "$root"/var/lib/apt/lists/*
  rm -rf "$root"/usr/share/{doc,man}/*
  printf 'kernels\n' >"$root/etc/hostname"
  printf '127.0.0.1 localhost kernels\n::1 localhost\n' >"$root/etc/hosts"
  $MAKE_DISK -d "$root" "$root.new" 1500M
  rm -rf "$root"
  mv "$root.new" "$root.img"
}

work() {
  local checkout=$1 deno=$2 cache=$3 command=$4 disk=$5
  stage=$(mktemp -d "$directory/stage.XXXXXX")
  trap 'rm -rf "$stage"' EXIT
  mkdir "$stage/sendq"
  # As it is now, committed or not.
  (
    cd "$checkout"
    git ls-files -co --exclude-standard -z | while IFS= read -r -d '' file; do
      [ ! -e "$file" ] || printf '%s\0' "$file"
    done | xargs -0 cp --parents -t "$stage/sendq"
  )
  cp "$deno" "$stage/deno"
  cp -a "$cache" "$stage/cache"
  cp "$command" "$stage/command"
  cat >"$stage/start" <<'START'
#!/bin/bash
export PATH=/work:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export HOME=/root TERM=dumb DENO_DIR=/work/cache DENO_NO_UPDATE_CHECK=1
hostname kernels
mkdir -p /dev/pts /dev/shm /dev/net
mount -t devpts devpts /dev/pts; mount -t tmpfs tmpfs /dev/shm; mount -t tmpfs tmpfs /run
mount -t cgroup2 cgroup2 /sys/fs/cgroup 2>/dev/null
for link in fd: stdin:/0 stdout:/1 stderr:/2; do
  ln -sf "/proc/self/fd${link#*:}" "/dev/${link%:*}"
done
modprobe -a tun 2>/dev/null
[ -e /dev/net/tun ] || mknod /dev/net/tun c 10 200
ip link set lo up
ulimit -n 65536
echo "KERNELS-BEGIN $(uname -r)"
cd /work/sendq
# A session of its own: there is no terminal that could be asked.
setsid bash /work/command </dev/null 2>&1
echo "KERNELS-END $?"
sync
echo o >/proc/sysrq-trigger
sleep 60
START
  chmod +x "$stage/start"
  $MAKE_DISK -d "$stage" "$disk" 1500M
}

case $what in
  list) mirror=$4 && list ;;
  kernel) mirror=$4 && kernel "$5" ;;
  system) mirror=$4 && system ;;
  work) shift 3 && work "$@" ;;
esac
