# bash completion for wfctl(1)

_wfctl()
{
	local cur prev words cword
	_init_completion || return
	case ${words[1]} in
	ls) [[ $cur == -* ]] && COMPREPLY=($(compgen -W '-l --json' -- "$cur")) && return ;;
	repack) [[ $cur == -* ]] && COMPREPLY=($(compgen -W '--trim' -- "$cur")) && return ;;
	esac
	if ((cword == 1)); then
		COMPREPLY=($(compgen -W 'ls verify status commit discard umount repack -h --help -V --version' -- "$cur"))
	elif [[ ${words[1]} == umount ]]; then
		COMPREPLY=($(compgen -W "$(awk '$3 == "fuse.weightfs" { print $2 }' /proc/self/mounts)" -- "$cur"))
	else
		_filedir
	fi
} && complete -F _wfctl wfctl
