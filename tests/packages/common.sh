# SPDX-License-Identifier: MIT
# What the scripts of a bare tree share. A line a check, as in TAP; what did not go well stands below it.

verdict() { # STATUS WHAT [DETAIL]
	if [ "$1" = 0 ]; then
		echo "ok $2"
	else
		echo "not ok $2"
		[ -z "${3:-}" ] || echo "$3" | sed 's/^/#   /' | tail -n 40
	fi
}

check() { # WHAT COMMAND...
	what=$1
	shift
	said=$("$@" 2>&1 </dev/null)
	verdict $? "$what" "$said"
}

can_mount() {
	(exec 3<>/dev/fuse) 2>/dev/null
}

as() { # USER COMMAND
	su -s /bin/sh "$1" -c "$2" </dev/null
}

shows() { # WHAT USER QUICKSTART: it ends well, shows a checkpoint, and what it mounted is unmounted as it says
	what=$1 who=$2
	said=$(as "$who" "$3" 2>&1)
	verdict $? "$what" "$said"
	case $said in *conv1.weight*) verdict 0 "$what shows the checkpoint" ;; *) verdict 1 "$what shows the checkpoint" "$said" ;; esac
	unmount=$(echo "$said" | sed -n 's/.*to unmount: //p')
	[ -z "$unmount" ] || check "$what: what it says unmounts" as "$who" "$unmount"
}

install() { # PACKAGE...
	apt-get -qq install -y --no-install-recommends "$@" >/tmp/apt.log 2>&1 </dev/null || { tail -n 20 /tmp/apt.log; return 1; }
}
