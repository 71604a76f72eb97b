#include "kernel_on_cpu.h"

extern "C" unsigned long scene_bytes() { return sizeof(Scene); }

extern "C" void compose_on_cpu(const Scene* scene, const unsigned long long* where, unsigned int gx, unsigned int gy, unsigned int bx, unsigned int by) {
    run_compose(scene, where, {gx, gy, 1}, {bx, by, 1});
}
