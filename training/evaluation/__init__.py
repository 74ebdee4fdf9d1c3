"""The score card: is it music, is it the mood, is it new, may it ship?"""
