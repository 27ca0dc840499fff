"""The rig on a Celery fleet: beats of ours, workers of Celery's with the guard, and a broker between them.

What is put, edited, judged and shown is the rig's own (chaos/rig.py). Here are the app that beats and workers
load, the processes with their children, the broker, and what is done to all of them.
"""
