"""Learning-rate schedules, stepped after every optimiser step.

A member is a function of (optimiser, steps_per_epoch, epochs, options) that returns a torch scheduler.
"""
