#ifndef FERRULE_THREADS_H
#define FERRULE_THREADS_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Threads that wait for work. A NULL pool stands for the calling thread alone, in every function here. */
typedef struct ferrule_pool ferrule_pool;

/* A task: `index` is its number; `worker` (0 is the caller) lies below ferrule_pool_threads, and no two
 * tasks run at once with the same one, so it may choose scratch memory. */
typedef void ferrule_task(void* context, size_t index, size_t worker);

/* A pool of `threads` threads, the calling one counted in; NULL if they cannot be started. */
ferrule_pool* ferrule_pool_create(size_t threads);
void ferrule_pool_destroy(ferrule_pool* pool);
size_t ferrule_pool_threads(const ferrule_pool* pool);

/* Runs task(context, 0..tasks-1) and returns when all have ended. Threads take tasks one by one, so a thread
 * that loses its core delays only the task that it holds. Called on a pool that is at work, from one of its
 * tasks or from another thread, it runs all tasks on the calling thread, as worker 0. */
void ferrule_pool_run(ferrule_pool* pool, size_t tasks, ferrule_task* task, void* context);

#ifdef __cplusplus
}
#endif

#endif
