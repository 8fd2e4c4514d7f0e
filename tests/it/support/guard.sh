# Ends every process and removes the directory of one run of servers, however their owner ends: by itself, by a panic,
# by Ctrl-C or by kill -9. It reads lines until its input closes, which the kernel does when the owner is gone.
#   $1                   the directory to remove
#   watch SIGNAL PID     end this process with this signal, then with KILL
trap '' INT TERM HUP
directory=$1
pids=() signals=() births=()

# A process is named by its id and the time it began, since ids are used again. A zombie is dead.
birth() {
  local stat
  { read -r stat <"/proc/$1/stat"; } 2>/dev/null || return 1
  set -- ${stat##*) }
  [ "$1" != Z ] && echo "${20}"
}
alive() { [ "$(birth "${pids[$1]}")" = "${births[$1]}" ]; }

while read -r word signal pid; do
  [ "$word" = watch ] || continue
  born=$(birth "$pid") || continue
  pids+=("$pid") signals+=("$signal") births+=("$born")
done

for ((i = ${#pids[@]} - 1; i >= 0; i--)); do
  alive "$i" && kill -s "${signals[$i]}" "${pids[$i]}" 2>/dev/null
done
for ((turn = 0; turn < 100; turn++)); do
  left=0
  for i in "${!pids[@]}"; do alive "$i" && left=1; done
  [ "$left" = 0 ] && break
  sleep 0.1
done
for i in "${!pids[@]}"; do
  alive "$i" && kill -s KILL -- "-${pids[$i]}" "${pids[$i]}" 2>/dev/null
done
# What was started a moment before its owner died, and not yet told of (RabbitMQ's epmd makes itself a daemon): nobody
# else has this run's directory in its environment.
for process in /proc/[0-9]*; do
  pid=${process#/proc/}
  [ "$pid" != "$$" ] && grep -qsF -- "$directory" "$process/environ" && kill -s KILL "$pid" 2>/dev/null
done
for ((turn = 0; turn < 20; turn++)); do
  rm -rf -- "$directory" 2>/dev/null && break
  sleep 0.1
done
