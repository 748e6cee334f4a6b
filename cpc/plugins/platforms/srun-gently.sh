# srun-gently OPTION… PROGRAM…: srun, but so that SIGTERM reaches the program.
#
# srun itself answers SIGTERM by killing its step at once, and a program could not write its last checkpoint. So srun runs
# in a session of its own, where the SIGTERM to the attempt's process group does not find it; it is told SIGUSR1, which it
# passes on, and a shell at the other end makes SIGTERM of that. What has not ended 25 s later is ended by srun itself,
# before the worker, whose grace is 30 s, kills srun: a step whose srun was killed runs on to the end of the allocation.
#
# The shell at the other end also leaves the program those GPUs that CPC_STEP_GPUS says it has on its node, as places among
# those that Slurm has given to the step: `n1:0,2 n2:1`, or `-` for none.
there='
if [ -n "${CPC_STEP_GPUS-}" ]; then
    mine=
    for one in $CPC_STEP_GPUS; do
        [ "${one%%:*}" != "$SLURMD_NODENAME" ] || mine=${one#*:}
    done
    for name in CUDA_VISIBLE_DEVICES ROCR_VISIBLE_DEVICES GPU_DEVICE_ORDINAL ZE_AFFINITY_MASK; do
        eval "all=\${$name-}"
        [ -n "$all" ] || continue
        own= place=0 IFS=,
        for id in $all; do
            case ,$mine, in *,$place,*) own=$own${own:+,}$id ;; esac
            place=$((place + 1))
        done
        unset IFS
        export "$name=$own"
    done
    unset CPC_STEP_GPUS
fi
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
