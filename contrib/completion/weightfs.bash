# SPDX-License-Identifier: MIT
# bash completion for weightfs(1)

_weightfs()
{
	local cur prev words cword
	_init_completion -n = || return
	local value options='ro rw map_location= preload verify output= commit= direct_io allow_other default_permissions uid= gid= umask='
	if [[ $prev == -o ]]; then
		# the last of a list that is joined by commas
		local done=
		[[ $cur == *,* ]] && done=${cur%,*},
		value=${cur##*,}
		case $value in
		commit=*) COMPREPLY=($(compgen -P "$done" -W 'commit=auto commit=replace commit=append' -- "$value")) ;;
		map_location=*) COMPREPLY=($(compgen -P "$done" -W 'map_location=cpu map_location=cuda' -- "$value")) ;;
		output=*) COMPREPLY=($(compgen -P "${done}output=" -f -- "${value#output=}")) ;;
		*) COMPREPLY=($(compgen -P "$done" -W "$options" -- "$value")) ;;
		esac
		compopt -o nospace
	elif [[ $cur == -* ]]; then
		COMPREPLY=($(compgen -W '-f -d -s -h --help -V --version -o' -- "$cur"))
	else
		_filedir
	fi
} && complete -F _weightfs weightfs
