# bash completion for wfctl(1): verbs, options, files, mount points, and the keys of a checkpoint

# The paths that begin with what is typed; as a user would have to quote them.
_wfctl_keys()
{
	local path
	while IFS= read -r path; do
		printf -v path %q "${path%% $'\t'*}"
		COMPREPLY+=("$path")
	done < <(wfctl ls --all -- "$1" "$2" 2>/dev/null)
}

_wfctl()
{
	local cur prev words cword
	_init_completion || return
	local verb=${words[1]} options= word path= i
	case $verb in
	ls) options='-a --all -l --long --json --entries' ;;
	export) options='--format --prefix --max-shard-size --skip' ;;
	repack) options='--trim' ;;
	commit) options='--onto' ;;
	verify | status | discard | umount) ;;
	esac
	if ((cword == 1)); then
		COMPREPLY=($(compgen -W 'ls verify status commit discard umount export repack help -h --help -V --version' -- "$cur"))
		return
	elif [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W "$options -h --help" -- "$cur"))
		return
	fi
	# the first argument that is no option
	for ((i = 2; i < cword; i++)); do
		[[ ${words[i]} == -* ]] || { path=${words[i]}; break; }
	done
	case $verb in
	help) COMPREPLY=($(compgen -W 'ls verify status commit discard umount export repack' -- "$cur")) ;;
	umount) COMPREPLY=($(compgen -W "$(awk '$3 == "fuse.weightfs" { print $2 }' /proc/self/mounts)" -- "$cur")) ;;
	ls) if [[ $path ]]; then _wfctl_keys "$path" "$cur"; else _filedir; fi ;;
	export) _filedir ;;
	*) [[ $path ]] || _filedir ;;
	esac
} && complete -F _wfctl wfctl
