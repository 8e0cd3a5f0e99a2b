#!/usr/bin/env bash
# Makes the Debian package and the tar archive of this tree, with their checksums, in target/package.
#
#   scripts/package.sh                 builds the release program and packs it
#   scripts/package.sh PROGRAM [VERSION]   packs a program that is there, under another version if one is given
set -euo pipefail
. "$(dirname "$0")/lib.sh"
cd "$ROOT"

program=${1:-}
version=${2:-$(sed -n 's/^version *= *"\(.*\)"/\1/p' Cargo.toml | head -n1)}
out="${CARGO_TARGET_DIR:-target}/package"
if [ -z "$program" ]; then
    bash scripts/build.sh
    program="${CARGO_TARGET_DIR:-target}/release/cakework"
fi
command -v dpkg-deb >/dev/null || die "dpkg-deb is missing" "it is part of Debian's dpkg"
arch=$(dpkg --print-architecture)
# The same tree gives the same bytes (reproducible-builds.org/specs/source-date-epoch).
export SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date +%s)}

tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
umask 022
put() { install -D -m "$1" "$2" "$tree/$3"; }
put 755 "$program" usr/bin/cakework
put 644 deploy/systemd/cakework.service usr/lib/systemd/system/cakework.service
put 644 deploy/systemd/cakework.sysusers usr/lib/sysusers.d/cakework.conf
put 644 deploy/debian/config.toml etc/cakework/config.toml
put 644 docs/config.example.toml usr/share/doc/cakework/config.example.toml
put 644 README.md usr/share/doc/cakework/README.md
put 644 THREATS.md usr/share/doc/cakework/THREATS.md
put 644 LICENSE usr/share/doc/cakework/copyright
"$program" man "$tree/usr/share/man/man1"
gzip -9n "$tree"/usr/share/man/man1/*.1
mkdir -p "$tree"/usr/share/{bash-completion/completions,zsh/vendor-completions,fish/vendor_completions.d}
"$program" completions bash >"$tree/usr/share/bash-completion/completions/cakework"
"$program" completions zsh >"$tree/usr/share/zsh/vendor-completions/_cakework"
"$program" completions fish >"$tree/usr/share/fish/vendor_completions.d/cakework.fish"
gzip -9n <CHANGELOG.md >"$tree/usr/share/doc/cakework/changelog.gz"
chmod 644 "$tree/usr/share/doc/cakework/changelog.gz"

mkdir -p "$out"
rm -f "$out"/cakework[-_]"$version"[-_]* "$out/SHA256SUMS"
archive="cakework-$version-linux-$arch"
tar --create --gzip --file "$out/$archive.tar.gz" --directory "$tree" --transform "s,^\.,$archive," --sort=name \
    --owner=0 --group=0 --numeric-owner --mtime="@$SOURCE_DATE_EPOCH" .

mkdir "$tree/DEBIAN"
sed -e "s/@VERSION@/$version/; s/@ARCH@/$arch/; s/@SIZE_KIB@/$(du -sk --apparent-size "$tree" | cut -f1)/" \
    deploy/debian/control >"$tree/DEBIAN/control"
echo /etc/cakework/config.toml >"$tree/DEBIAN/conffiles"
for script in postinst prerm postrm; do install -m 755 "deploy/debian/$script" "$tree/DEBIAN/$script"; done
(cd "$tree" && find usr etc -type f -print0 | sort -z | xargs -0 md5sum) >"$tree/DEBIAN/md5sums"
dpkg-deb --root-owner-group -Zxz --build "$tree" "$out/cakework_${version}_$arch.deb" >/dev/null

(cd "$out" && sha256sum ./*.deb ./*.tar.gz | sed 's, \./, ,' >SHA256SUMS)
for file in "$out/cakework_${version}_$arch.deb" "$out/$archive.tar.gz"; do
    say "$file: $(($(stat -c %s "$file") / 1024)) KiB"
done
