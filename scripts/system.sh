#!/bin/sh
# Debian packages that tests and rehearsals need (as root): a browser, a sound server, fonts, node for axe-core, an MQTT broker,
# PostgreSQL, strace; for the firmware tests a C compiler, systemd-analyze, nft and the compositor.
set -eu
wanted="chromium pulseaudio pulseaudio-utils fonts-dejavu-core libsndfile1 mosquitto postgresql strace gcc libc6-dev nftables systemd cage xwayland"
command -v npm >/dev/null || wanted="$wanted npm"
command -v g++ >/dev/null || wanted="$wanted g++"
missing=""
for package in $wanted; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q "ok installed" || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
[ "$(id -u)" = 0 ] || { echo "These Debian packages are missing:$missing. Run as root: apt-get install$missing" >&2; exit 2; }
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# shellcheck disable=SC2086 # a list of words
apt-get install -y -qq --no-install-recommends $missing >/dev/null
