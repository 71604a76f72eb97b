// Compiles the CUDA kernel for the CPU: what the compiler for GPUs knows by itself, and the loop over blocks and threads.
#pragma once
#include <math.h>

struct Three {
    unsigned int x, y, z;
};
static thread_local Three blockIdx, blockDim, threadIdx;
#define __global__
#define __device__

#include KERNEL

static void run_compose(const Scene* scene, const unsigned long long* where, Three grid, Three block) {
    blockDim = block;
    for (unsigned int by = 0; by < grid.y; by++)
        for (unsigned int bx = 0; bx < grid.x; bx++)
            for (unsigned int ty = 0; ty < block.y; ty++)
                for (unsigned int tx = 0; tx < block.x; tx++) {
                    blockIdx = {bx, by, 0};
                    threadIdx = {tx, ty, 0};
                    compose(scene, where);
                }
}
