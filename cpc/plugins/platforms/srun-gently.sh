# srun-gently DIRECTORY OPTION… PROGRAM…: srun, but so that SIGTERM reaches the program, and that its end is known.
#
# srun itself answers SIGTERM by killing its step at once, and a program could not write its last checkpoint. So srun runs
# in a session of its own, where the SIGTERM to the attempt's process group does not find it; it is told SIGUSR1, which it
# passes on, and a shell at the other end makes SIGTERM of that. What has not ended 25 s later is ended by srun itself,
# before the worker, whose grace is 30 s, kills srun: a step whose srun was killed runs on to the end of the allocation.
#
# The shell at the other end also leaves the program those GPUs that CPC_STEP_GPUS says it has on its node, as places among
# those that Slurm has given to the step: `n1:0,2 n2:1`, or `-` for none.
#
# srun ends with 0 when the nodes of its tasks have died. So the shell at the other end says in DIRECTORY, which all nodes
# see, that its program has ended well. Where none has said so, and where Slurm could start nothing, SIGUSR2 ends this script:
# nobody knows how the program would have ended. mkdir asks the file server itself; a look may be answered by what was there.
there='
ends=$1
shift
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
case $code in 0 | 213) [ -z "$ends" ] || mkdir "$ends/${SLURM_PROCID:-0}" || code=1 ;; esac
exit $code
'
ends=$1/.srun-$$ tasks=1 begun=
shift
mkdir "$ends" || ends=
for word in "$@"; do
    case $begun$word in
    --ntasks=*) tasks=${word#*=} ;;
    -*) ;;
    *) [ -n "$begun" ] || set -- "$@" /bin/sh -c "$there" task "$ends"; begun=x ;;
    esac
    set -- "$@" "$word"
    shift
done
exec 3<&0 # what runs in the background has no stdin of its own
SLURM_EXIT_ERROR=213 setsid srun "$@" <&3 3<&- &
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
[ -n "$ends" ] || exit $code
lost= some=
case $code in
0 | 213)
    set -- "$ends"/*
    [ -d "$1" ] && some=$# || some=0
    number=0
    while [ "$some" -lt "$tasks" ] && [ $number -lt "$tasks" ]; do
        ! mkdir "$ends/$number" 2>/dev/null || lost="$lost $number"
        number=$((number + 1))
    done
    ;;
esac
rm -rf "$ends"
[ $code = 0 ] || [ "$some" = 0 ] || lost= # a program of its own that ends with 213
[ -z "$lost" ] || {
    echo "srun: nobody knows how these tasks have ended: their node died, or they were not started:$lost" >&2
    kill -USR2 $$
}
exit $code
