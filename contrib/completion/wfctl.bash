# SPDX-License-Identifier: MIT
# bash completion for wfctl(1): verbs, options, files, mount points, attributes, and the keys of a checkpoint. What there is to offer
# wfctl says itself: wfctl complete.

# The lines of a list that begin with what is typed, without what stands behind a tab.
_wfctl_offer()
{
	local line
	while IFS= read -r line; do
		line=${line%%$'\t'*}
		[[ $line == "$cur"* ]] && COMPREPLY+=("$line")
	done < <(wfctl complete "$@" 2>/dev/null)
	[[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace 2>/dev/null
}

# The keys of checkpoint $1 that begin with $2, as a user would have to quote them. $3: what stands before them in the word.
_wfctl_keys()
{
	local path
	while IFS= read -r path; do
		[[ $path == *[./_] ]] && compopt -o nospace 2>/dev/null
		printf -v path %q "$path"
		COMPREPLY+=("$3$path")
	done < <(wfctl complete keys "$1" "${2//\\/}" 2>/dev/null)
}

# The file whose keys come next; while the rest of the line is typed, its keys are read: of a large one that takes longer than anybody
# waits for.
_wfctl_checkpoint()
{
	_filedir
	[[ ${#COMPREPLY[@]} -eq 1 && -f ${COMPREPLY[0]} ]] && (wfctl complete keys "${COMPREPLY[0]}" '' >/dev/null 2>&1 &)
}

_wfctl()
{
	local cur prev words cword
	_init_completion -n := || return
	local verb=${words[1]} path= i count=0
	if ((cword == 1)); then
		_wfctl_offer verbs
		return
	elif [[ $cur == -* && $verb != help ]]; then
		_wfctl_offer options "$verb"
		return
	fi
	# the arguments before this one
	for ((i = 2; i < cword; i++)); do
		[[ ${words[i]} == -* ]] && continue
		((count++)) || path=${words[i]}
	done
	case $verb in
	help) _wfctl_offer verbs ;;
	umount) _wfctl_offer mounts ;;
	cp)
		if [[ $cur == *:* ]]; then
			_wfctl_keys "${cur%%:*}" "${cur#*:}" "${cur%%:*}:"
			declare -F __ltrim_colon_completions >/dev/null && __ltrim_colon_completions "$cur"
		elif [[ $path && $path != *:* ]]; then
			_wfctl_keys "$path" "$cur"
		else
			_wfctl_checkpoint
		fi
		;;
	attr)
		if ((count == 0)); then
			_wfctl_checkpoint
		elif ((count == 1)); then
			_wfctl_keys "$path" "$cur"
		else
			_wfctl_offer attributes "$path" "${words[cword - 1]}"
		fi
		;;
	ls | cat | set | mv | rm | ln | mkdir | rename) if [[ $path ]]; then _wfctl_keys "$path" "$cur"; else _wfctl_checkpoint; fi ;;
	mount | export) ((count > 1)) || _filedir ;;
	*) [[ $path ]] || _filedir ;;
	esac
} && complete -F _wfctl wfctl
