# srun-gently OPTION… PROGRAM…: srun, but so that SIGTERM reaches the program.
#
# srun itself answers SIGTERM by killing its step at once, and a program could not write its last checkpoint. So srun runs
# in a session of its own, where the SIGTERM to the attempt's process group does not find it; it is told SIGUSR1, which it
# passes on, and a shell at the other end makes SIGTERM of that. What has not ended 25 s later is ended by srun itself,
# before the worker, whose grace is 30 s, kills srun: a step whose srun was killed runs on to the end of the allocation.
there='
exec 3<&0
(trap "" USR1; exec "$@" 3<&-) <&3 &
exec 3<&-
child=$!
trap "kill -TERM $child 2>/dev/null" USR1 TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
exit $code
'
begun=
for word in "$@"; do
    case $begun$word in
    -*) ;;
    *) [ -n "$begun" ] || set -- "$@" /bin/sh -c "$there" task; begun=x ;;
    esac
    set -- "$@" "$word"
    shift
done
exec 3<&0 # what runs in the background has no stdin of its own
setsid srun "$@" <&3 3<&- &
exec 3<&-
child=$!
timer=
told() {
    kill -USR1 $child 2>/dev/null
    [ -n "$timer" ] || { (sleep 25; kill -TERM $child) </dev/null >/dev/null 2>&1 & timer=$!; }
}
trap told TERM
wait $child; code=$?
while kill -0 $child 2>/dev/null; do wait $child; code=$?; done
[ -z "$timer" ] || kill $timer 2>/dev/null
exit $code
