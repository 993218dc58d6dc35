#!/usr/bin/env bash
# A Flink cluster on this machine: one JobManager, two TaskManagers, and one pool of Beam's Python workers for each
# TaskManager. Use it to try things out, and to see what a real cluster needs on each of its machines. The JobManager and
# Beam's job server share a network namespace, as if they were another machine, and each TaskManager shares one with its
# pool. This needs root and iproute2. There are two reasons. A pool knows its workers by name, and two TaskManagers use
# the same names: a pool that served both would stop the wrong one. And the cluster has no authentication: whoever reaches
# it can run code as root. Beam's job server listens on all addresses that it has, whatever --job-host says.
#
# So nothing listens on an address of this machine, not even on loopback. The namespaces have addresses on a bridge inside
# the machine and no route to anywhere else: only this machine reaches them.
#
#   FLINK_HOME=…/flink-1.19.3 JOB_SERVER_JAR=…/job-server.jar examples/flink/cluster.sh start
#   vlmixer run CONFIG.yaml -- $(examples/flink/cluster.sh options)
#   examples/flink/cluster.sh stop
#
# FLINK_HOME      an unpacked Flink; only its folder lib/ is used
# JOB_SERVER_JAR  Beam's job server for that version of Flink, org.apache.beam:beam-runners-flink-1.19-job-server
# PYTHON          the Python in which vlmixer is installed                        (default: python3)
# CLUSTER_DIR     logs, process ids and Flink's own files                         (default: ./flink-cluster)
# SLOTS           how many tasks each TaskManager runs at a time                  (default: 1)
# BASE_PORT       the first of seven free ports                                   (default: 18080)
# NETWORK         first three numbers of the addresses of the three "machines"    (default: 10.199.0)
#
# Other commands: status, `kill taskmanager-1`, `restart taskmanager-1` (or another name that status shows).
set -euo pipefail

DIR=${CLUSTER_DIR:-$PWD/flink-cluster}
PYTHON=${PYTHON:-python3}
SLOTS=${SLOTS:-1}
PORT=${BASE_PORT:-18080}
NETWORK=${NETWORK:-10.199.0}
MASTER=$NETWORK.10
REST=$PORT RPC=$((PORT + 1)) BLOB=$((PORT + 2)) JOBS=$((PORT + 3)) ARTIFACTS=$((PORT + 4)) EXPANSION=$((PORT + 5))
POOL=$((PORT + 6))

# Beam's classes are on Flink's class path, and a job brings an empty jar. Otherwise each of a run's six jobs would
# upload Beam's jar (160 MB) to the JobManager, and each TaskManager would fetch and load it again.
EMPTY=$DIR/empty.jar

# Flink on Java 17 needs access to these packages of the JDK.
JAVA_OPENS=(--add-opens=java.base/java.lang=ALL-UNNAMED --add-opens=java.base/java.net=ALL-UNNAMED
  --add-opens=java.base/java.io=ALL-UNNAMED --add-opens=java.base/java.nio=ALL-UNNAMED
  --add-opens=java.base/sun.nio.ch=ALL-UNNAMED --add-opens=java.base/java.lang.reflect=ALL-UNNAMED
  --add-opens=java.base/java.text=ALL-UNNAMED --add-opens=java.base/java.time=ALL-UNNAMED
  --add-opens=java.base/java.util=ALL-UNNAMED --add-opens=java.base/java.util.concurrent=ALL-UNNAMED
  --add-opens=java.base/java.util.concurrent.atomic=ALL-UNNAMED --add-opens=java.base/java.util.concurrent.locks=ALL-UNNAMED)

# This machine is at NETWORK.1, the JobManager and the job server at NETWORK.10, TaskManager N at NETWORK.1N.
connect() {
  ip link show vlmixer > /dev/null 2>&1 && return
  ip link add vlmixer type bridge
  ip addr add "$NETWORK.1/24" dev vlmixer
  ip link set vlmixer up
  for n in 0 1 2; do
    ip netns add "vlmixer-$n"
    ip link add "vlmixer-$n" type veth peer name eth0 netns "vlmixer-$n"
    ip link set "vlmixer-$n" master vlmixer up
    ip -n "vlmixer-$n" addr add "$NETWORK.1$n/24" dev eth0
    ip -n "vlmixer-$n" link set eth0 up
    ip -n "vlmixer-$n" link set lo up
  done
}

disconnect() {
  for n in 0 1 2; do
    ip link del "vlmixer-$n" 2> /dev/null || true
    ip netns del "vlmixer-$n" 2> /dev/null || true
  done
  ip link del vlmixer 2> /dev/null || true
}

configure() {
  mkdir -p "$DIR/conf"
  cat > "$DIR/conf/config.yaml" << YAML
jobmanager.rpc.address: $MASTER
jobmanager.rpc.port: $RPC
jobmanager.bind-host: 0.0.0.0
jobmanager.memory.process.size: 1g
rest.address: $MASTER
rest.port: $REST
rest.bind-port: "$REST"
rest.bind-address: 0.0.0.0
blob.server.port: "$BLOB"
taskmanager.memory.process.size: 1120m
taskmanager.numberOfTaskSlots: $SLOTS
# If a TaskManager or a worker is lost, the job restarts. Units of work that are done are not done again.
restart-strategy.type: fixed-delay
restart-strategy.fixed-delay.attempts: 5
restart-strategy.fixed-delay.delay: 2 s
# A silent TaskManager is given up after the timeout (milliseconds).
heartbeat.interval: 2000
heartbeat.timeout: 10000
io.tmp.dirs: $DIR/tmp
YAML
  cat > "$DIR/conf/log4j.properties" << 'LOG4J'
rootLogger.level = INFO
rootLogger.appenderRef.console.ref = Console
appender.console.name = Console
appender.console.type = CONSOLE
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{HH:mm:ss,SSS} %-5p %c{1} - %m%n
LOG4J
}

spawn() { # spawn NAME COMMAND…: in its own process group, so that its child processes end with it
  local name=$1
  shift
  setsid "${inside[@]}" "$@" >> "$DIR/log/$name.log" 2>&1 < /dev/null &
  echo $! > "$DIR/pid/$name"
}

flink() { # flink NAME MEMORY CLASS ARGUMENTS…
  local name=$1 heap=$2 class=$3
  shift 3
  spawn "$name" java -Xmx"$heap" -XX:MaxDirectMemorySize=384m "${JAVA_OPENS[@]}" \
    -Dlog4j.configurationFile="$DIR/conf/log4j.properties" -cp "$FLINK_HOME/lib/*:$JOB_SERVER_JAR" "$class" --configDir "$DIR/conf" "$@"
}

launch() { # launch NAME
  local inside=()
  case $1 in
    jobmanager)
      inside=(ip netns exec vlmixer-0)
      flink "$1" 512m org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint ;;
    taskmanager-*)
      # Flink's own start script would divide the configured memory like this. Each shuffle that goes on at the same time
      # needs 16 MB of network memory: those of examples/own_pipeline.py together more than 96 MB.
      inside=(ip netns exec "vlmixer-${1#*-}")
      flink "$1" 384m org.apache.flink.runtime.taskexecutor.TaskManagerRunner \
        -D taskmanager.resource-id="$1" -D taskmanager.host="$NETWORK.1${1#*-}" \
        -D taskmanager.bind-host="$NETWORK.1${1#*-}" -D taskmanager.cpu.cores="$SLOTS".0 \
        -D taskmanager.memory.task.heap.size=256m -D taskmanager.memory.task.off-heap.size=0b \
        -D taskmanager.memory.framework.heap.size=128m -D taskmanager.memory.framework.off-heap.size=128m \
        -D taskmanager.memory.network.min=192m -D taskmanager.memory.network.max=192m \
        -D taskmanager.memory.managed.size=128m -D taskmanager.memory.jvm-metaspace.size=192m \
        -D taskmanager.memory.jvm-overhead.min=96m -D taskmanager.memory.jvm-overhead.max=96m ;;
    pool-*)
      # The pool starts the first `python` on the PATH: it must be the one with vlmixer.
      inside=(ip netns exec "vlmixer-${1#*-}")
      PATH="$(dirname "$(command -v "$PYTHON")"):$PATH" \
        spawn "$1" "$PYTHON" -m apache_beam.runners.worker.worker_pool_main --service_port "$POOL" ;;
    jobserver)
      inside=(ip netns exec vlmixer-0)
      spawn "$1" java -Xmx512m "${JAVA_OPENS[@]}" -jar "$JOB_SERVER_JAR" --flink-master "$MASTER:$REST" \
        --job-host "$MASTER" --job-port "$JOBS" --artifact-port "$ARTIFACTS" --expansion-port "$EXPANSION" \
        --artifacts-dir "$DIR/artifacts" --flink-conf-dir "$DIR/conf" ;;
  esac
}

NAMES=(jobmanager pool-1 pool-2 taskmanager-1 taskmanager-2 jobserver)

alive() { [[ -f $DIR/pid/$1 ]] && kill -0 -- "-$(cat "$DIR/pid/$1")" 2> /dev/null; }

end() { # end NAME SIGNAL
  if alive "$1"; then kill "-$2" -- "-$(cat "$DIR/pid/$1")"; fi
  rm -f "$DIR/pid/$1"
}

taskmanagers() { curl -s --noproxy '*' "$MASTER:$REST/taskmanagers" | grep -o '"freeSlots":[0-9]*' | wc -l; }

case ${1:-} in
  start)
    : "${FLINK_HOME:?folder of Flink, see the top of this script}" "${JOB_SERVER_JAR:?see the top of this script}"
    mkdir -p "$DIR"/{log,pid,tmp,artifacts}
    "$PYTHON" -c 'import sys, zipfile; zipfile.ZipFile(sys.argv[1], "w").close()' "$EMPTY"
    connect
    configure
    for name in "${NAMES[@]}"; do alive "$name" || launch "$name"; done
    for _ in $(seq 120); do
      if [[ $(taskmanagers) == 2 ]] && (: < "/dev/tcp/$MASTER/$JOBS") 2> /dev/null; then
        echo "Flink's page: http://$MASTER:$REST"
        exit
      fi
      sleep 0.5
    done
    echo "the cluster did not come up within a minute; see $DIR/log" >&2
    exit 1
    ;;
  options)
    echo --runner=PortableRunner "--job_endpoint=$MASTER:$JOBS" --environment_type=EXTERNAL \
      "--environment_config=localhost:$POOL" "--parallelism=$((2 * SLOTS))" "--files_to_stage=$EMPTY"
    ;;
  status) for name in "${NAMES[@]}"; do echo "$name $(alive "$name" && cat "$DIR/pid/$name" || echo -)"; done ;;
  kill) end "$2" KILL ;;
  restart) end "$2" KILL && launch "$2" ;;
  stop)
    for name in "${NAMES[@]}"; do end "$name" TERM; done
    disconnect
    ;;
  *) sed -n '2,/^set/p' "$0" | grep '^#' && exit 2 ;;
esac
