# Ends a server when nobody needs it any more.
#
# $1: lock file that every user of the server holds a shared lock on.
# $2: seconds for which nobody must have used it.
# $3: folder of the server; `pids` in it names its processes, each with the signal that ends it.
# $4: file that tells users about the server, or an empty word.
trap '' HUP INT
exec 8>>"$1"
while :; do
  flock -x 8
  flock -u 8
  [ "$2" -gt 0 ] && sleep "$2"
  flock -n -x 8 && break
done
# From here on whoever wants the server waits for the lock, then finds no server and starts one.
[ -n "$4" ] && rm -f "$4"
if [ -f "$3/pids" ]; then
  home=$(cd "$3" && pwd -P)
  while read -r pid signal; do
    # The server may have died long ago, and its number be that of somebody else by now. Servers
    # work in their folder or below; nobody else does.
    case "$(readlink "/proc/$pid/cwd")" in "$home" | "$home"/*) ;; *) continue ;; esac
    kill "-$signal" "$pid" 2>/dev/null
    tries=0
    while kill -0 "$pid" 2>/dev/null && [ "$tries" -lt 50 ]; do
      # A zombie is gone, whether or not somebody collects it.
      case "$(cat "/proc/$pid/stat" 2>/dev/null)" in *') Z '*) break ;; esac
      tries=$((tries + 1))
      sleep 0.1
    done
    kill -KILL "$pid" 2>/dev/null
  done <"$3/pids"
fi
rm -rf "$3"
