# install_detectron2.sh REQUIREMENT: builds detectron2 against the installed torch, with CUDA if VARIANT is gpu.
set -eu
if [ "${VARIANT:-cpu}" = gpu ]; then
    # NVIDIA's wheels hold the whole toolkit, but not in the layout that compilers expect.
    CUDA_HOME=$(python -c 'import nvidia.cu13; print(next(iter(nvidia.cu13.__path__)))')
    [ -e "$CUDA_HOME/lib64" ] || ln -s lib "$CUDA_HOME/lib64"
    [ -e "$CUDA_HOME/lib/libcudart.so" ] || ln -s libcudart.so.13 "$CUDA_HOME/lib/libcudart.so"
    export CUDA_HOME FORCE_CUDA=1 TORCH_CUDA_ARCH_LIST="$CUDA_ARCHITECTURES"
else
    export FORCE_CUDA=0
fi
pip install --no-build-isolation "$1"
